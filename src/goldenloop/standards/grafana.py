"""Dashboards for Grafana, as JSON that it imports: the loop, its serving, its objectives. Each panel is one query or two on our metrics."""

from __future__ import annotations

from dataclasses import dataclass

from goldenloop.core.json import Json, JsonObject

_SCHEMA = 38  # of Grafana 10
_WIDTH = 24
_LOOP = '{namespace="$namespace",loop="$loop"}'
_SERVICE = '{namespace="$namespace",service="$loop"}'


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture: its title, what it asks, and how it is drawn."""

    title: str
    queries: tuple[tuple[str, str], ...]  # PromQL, and what its lines are called
    unit: str = "short"
    type: str = "timeseries"
    width: int = 12
    height: int = 8
    about: str = ""


def _of_loop(name: str, **more: str) -> str:
    chosen = "".join(f',{label}="{value}"' for label, value in more.items())
    return f'{name}{{namespace="$namespace",loop="$loop"{chosen}}}'


LOOP_PANELS = (
    Panel("Golden version", ((f"goldenloop_golden_version{_SERVICE}", "version"),), type="stat", width=4, height=5),
    Panel("Windows closed", ((f"goldenloop_windows{_LOOP}", "windows"),), type="stat", width=4, height=5),
    Panel("Runs", ((f"sum by (state) (goldenloop_runs{_LOOP})", "{{state}}"),), type="stat", width=8, height=5),
    Panel(
        "Error budget left",
        ((f"goldenloop_error_budget_remaining{_SERVICE}", "{{slo}}"),),
        unit="percentunit",
        type="bargauge",
        width=8,
        height=5,
    ),
    Panel(
        "Quality",
        ((_of_loop("goldenloop_measurement", monitor="performance", feature="", slice=""), "{{metric}}"),),
        about="The metrics of the last window whose labels are due.",
    ),
    Panel(
        "Alarm statistics and their thresholds",
        (
            (_of_loop("goldenloop_measurement", metric="statistic"), "{{monitor}}"),
            (_of_loop("goldenloop_threshold", metric="statistic"), "{{monitor}}: threshold"),
        ),
        about="A monitor alarms where its statistic passes its threshold.",
    ),
    Panel(
        "Features that changed most",
        ((f"topk(10, {_of_loop('goldenloop_measurement', monitor='drift', metric='score')})", "{{feature}}"),),
    ),
    Panel(
        "Verdicts",
        ((f"sum by (monitor, verdict) ({_of_loop('goldenloop_verdict')})", "{{monitor}}: {{verdict}}"),),
        about="How many measurements of the last window passed, failed, or could not be judged.",
    ),
    Panel("Minutes of runs", ((f"goldenloop_run_seconds{_LOOP} / 60", "minutes"),), unit="m", about="What it cost."),
    Panel(
        "Promotion error spent",
        ((f"goldenloop_promotion_alpha_spent{_SERVICE}", "alpha spent"),),
        unit="percentunit",
        about="Of the loop's alpha: the chance that any promotion was wrong.",
    ),
)

SERVING_PANELS = (
    Panel(
        "Requests",
        (
            (
                f"sum by (model_version, code) (rate(goldenloop_requests_total{_SERVICE}[1m]))",
                "v{{model_version}} {{code}}",
            ),
        ),
        unit="reqps",
    ),
    Panel(
        "Answered without fault",
        (
            (
                f'1 - ((sum(rate(goldenloop_requests_total{{namespace="$namespace",service="$loop",code=~"5.."}}[5m])) or vector(0))'
                f" / sum(rate(goldenloop_requests_total{_SERVICE}[5m])))",
                "availability",
            ),
        ),
        unit="percentunit",
    ),
    Panel(
        "Latency",
        tuple(
            (
                f"histogram_quantile({quantile}, sum by (le) (rate(goldenloop_request_seconds_bucket{_SERVICE}[5m])))",
                name,
            )
            for quantile, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
        ),
        unit="s",
    ),
    Panel(
        "Rows scored in one call",
        (
            (
                f"sum(rate(goldenloop_batch_rows_sum{_SERVICE}[5m])) / sum(rate(goldenloop_batch_rows_count{_SERVICE}[5m]))",
                "rows",
            ),
        ),
    ),
    Panel(
        "Where the time goes",
        (
            (f"sum(rate(goldenloop_queue_seconds_total{_SERVICE}[5m]))", "waiting"),
            (f"sum(rate(goldenloop_compute_seconds_total{_SERVICE}[5m]))", "scoring"),
        ),
        unit="s",
        about="Seconds in each second, over all workers.",
    ),
    Panel(
        "Requests by version",
        ((f"sum by (model_version) (rate(goldenloop_request_seconds_count{_SERVICE}[5m]))", "v{{model_version}}"),),
        unit="reqps",
    ),
    Panel("Payload records", (("sum by (outcome) (rate(goldenloop_payload_records_total[5m]))", "{{outcome}}"),)),
    Panel("Workers", (("goldenloop_workers", "workers"),), type="stat"),
)

OBJECTIVE_PANELS = (
    Panel(
        "Error budget left",
        ((f"goldenloop_error_budget_remaining{_SERVICE}", "{{slo}}"),),
        unit="percentunit",
        type="bargauge",
        width=24,
        height=6,
        about="Of the whole window, as the platform counts it.",
    ),
    Panel("Attainment", ((f"goldenloop_objective_attainment{_SERVICE}", "{{slo}}"),), unit="percentunit"),
    Panel("Promised", ((f"goldenloop_objective_target{_SERVICE}", "{{slo}}"),), unit="percentunit"),
    Panel(
        "Burn rate",
        (('slo:current_burn_rate:ratio{sloth_service="$loop"}', "{{sloth_slo}}"),),
        about="1 spends the budget exactly by the end of its window.",
    ),
    Panel(
        "Share of errors",
        (('slo:sli_error:ratio_rate5m{sloth_service="$loop"}', "{{sloth_slo}}"),),
        unit="percentunit",
    ),
    Panel(
        "Error budget left, as Prometheus counts it",
        (('slo:period_error_budget_remaining:ratio{sloth_service="$loop"}', "{{sloth_slo}}"),),
        unit="percentunit",
    ),
    Panel(
        "What is promised",
        (('sloth_slo_info{sloth_service="$loop"}', "{{sloth_slo}}: {{sloth_objective}} %"),),
        type="stat",
    ),
)

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "goldenloop-loop": ("Loop", LOOP_PANELS),
    "goldenloop-serving": ("Serving", SERVING_PANELS),
    "goldenloop-objectives": ("Objectives", OBJECTIVE_PANELS),
}


def dashboard(uid: str) -> JsonObject:
    """One of DASHBOARDS, as Grafana imports it. It asks for the Prometheus, the namespace and the loop at its head."""
    title, panels = DASHBOARDS[uid]
    drawn: list[Json] = []
    x = y = row = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > _WIDTH:
            x, y, row = 0, y + row, 0
        drawn.append(_drawn(panel, number, x, y))
        x, row = x + panel.width, max(row, panel.height)
    return {
        "uid": uid,
        "title": f"goldenloop: {title}",
        "tags": ["goldenloop"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": _variables()},
        "links": [
            {"type": "dashboards", "title": "goldenloop", "tags": ["goldenloop"], "asDropdown": False, "keepTime": True}
        ],
        "panels": drawn,
    }


def _drawn(panel: Panel, number: int, x: int, y: int) -> JsonObject:
    source: JsonObject = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "type": panel.type,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": source}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def _variables() -> list[Json]:
    source: JsonObject = {"type": "prometheus", "uid": "${datasource}"}

    def asked(name: str, query: str) -> JsonObject:
        return {
            "name": name,
            "type": "query",
            "datasource": source,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
        }

    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        asked("namespace", "label_values(goldenloop_windows, namespace)"),
        asked("loop", 'label_values(goldenloop_windows{namespace="$namespace"}, loop)'),
    ]
