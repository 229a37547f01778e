"""Where models come from: `fetch` brings the files behind a storage URI into a folder, whole or not at all.

| address | what |
|---|---|
| `/path`, `file:///path` | a file or folder of this machine |
| `pvc://CLAIM/path` | the same, in the folder that stands for the claim |
| `s3://`, `gs://`, `abfs://`, `abfss://`, `az://` | objects, through fsspec; one object, or all below a prefix |
| `http://`, `https://` | one file |
| `hf://ORG/MODEL[:REVISION]` | the files of a repository of Hugging Face's hub, at one commit |

A single file that is an archive (tar, also compressed, or zip) is unpacked.
"""

from goldenloop.serving.storage.fetching import fetch
from goldenloop.serving.storage.records import Fetched, FetchedFile, Limits

__all__ = ["Fetched", "FetchedFile", "Limits", "fetch"]
