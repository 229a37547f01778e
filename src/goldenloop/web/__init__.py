"""The page: built files that a browser needs and nothing else.

Rules: the page asks only the public API of its own origin; it loads nothing from anywhere else, so the policy
`default-src 'self'` holds; its address behind `#` says what is shown (`#/loops/NAME`, `#/loops/NAME/versions/N`,
`#/runs`, `#/runs/ID`, `#/traces/ID`, and the addresses that KFP and MLflow clients print). The sources lie in `app/`,
where `npm ci && npm run build` writes `static/` anew; both are committed, so a clone needs no Node.
"""

from __future__ import annotations

from pathlib import Path

from goldenloop.core.errors import UnavailableError

__all__ = ["static_folder"]


def static_folder() -> Path:
    """Return the folder that holds `index.html` and what it loads.

    Raises UnavailableError where the files are missing, as in a checkout from which they were deleted.
    """
    folder = Path(__file__).parent / "static"
    if not (folder / "index.html").is_file():
        raise UnavailableError(
            "the built page is missing",
            where=str(folder),
            mend="Install goldenloop again, or run `npm ci && npm run build` in src/goldenloop/web/app",
        )
    return folder
