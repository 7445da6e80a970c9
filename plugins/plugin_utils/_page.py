# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""A report of the fleet as one HTML page that needs nothing from outside (pure). Every text goes through ``escape``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ansible_collections.tfgrid.gateway.plugins.plugin_utils._fleet import VERDICTS, in_words

_MOST_ROWS = 200  # of what is not in sync, on one gateway
_WORDS = {"ok": "healthy", "attention": "needs a look", "down": "down"}

_STYLE = """
:root { color-scheme: light dark; --ground:#f4f5f7; --card:#fff; --ink:#1c2230; --soft:#667085; --line:#e3e6ec;
  --ok:#1f9d61; --attention:#d98511; --down:#d3383c; --idle:#98a2b3;
  --in_sync:#1f9d61; --pending:#5b8def; --unreported:#8d7bea; --drifted:#e0a021; --missing:#e2703a; --orphaned:#a0648f;
  --failed:#c7636a; --target_down:#8a94a6; }
@media (prefers-color-scheme: dark) { :root { --ground:#10141c; --card:#191f2b; --ink:#e6e9f0; --soft:#94a0b5;
  --line:#2a3242; --idle:#5c6780; } }
* { box-sizing: border-box }
body { margin:0; background:var(--ground); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif }
main { max-width:1180px; margin:0 auto; padding:36px 24px 64px }
header { display:flex; flex-wrap:wrap; align-items:baseline; gap:4px 16px; margin-bottom:22px }
h1 { font-size:26px; line-height:1.2; margin:0; letter-spacing:-.02em }
header p { margin:0; color:var(--soft) }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px; margin-bottom:12px }
.tile,.card { background:var(--card); border:1px solid var(--line); border-radius:12px }
.tile { padding:14px 18px }
.tile b { display:block; font-size:28px; line-height:1.25; letter-spacing:-.02em; font-variant-numeric:tabular-nums }
.tile span { color:var(--soft); font-size:13px }
.tile.ok b { color:var(--ok) } .tile.attention b { color:var(--attention) } .tile.down b { color:var(--down) }
.card { padding:18px 20px; margin-bottom:12px }
.card.attention { border-left:4px solid var(--attention) } .card.down { border-left:4px solid var(--down) }
.card.ok { border-left:4px solid var(--ok) }
.bar { display:flex; height:10px; border-radius:5px; overflow:hidden; background:var(--line); gap:2px }
.bar i { min-width:4px }
.legend { display:flex; flex-wrap:wrap; gap:4px 18px; margin:10px 0 0; padding:0; list-style:none; color:var(--soft);
  font-size:13px }
.legend b { color:var(--ink); font-variant-numeric:tabular-nums }
.legend i,.dot { display:inline-block; width:9px; height:9px; border-radius:50%; margin-right:7px }
.top { display:flex; flex-wrap:wrap; align-items:center; gap:6px 12px; margin-bottom:12px }
h2 { font-size:17px; margin:0; overflow-wrap:anywhere }
.state { font-size:13px; font-weight:600 } .state.ok { color:var(--ok) } .state.attention { color:var(--attention) }
.state.down { color:var(--down) }
.version { color:var(--soft); font-size:13px }
.planes { display:flex; flex-wrap:wrap; gap:6px; margin-left:auto }
.plane { font-size:12px; padding:2px 10px; border-radius:99px; border:1px solid var(--line); color:var(--soft);
  white-space:nowrap }
.plane .dot { width:7px; height:7px; margin-right:6px; background:var(--ok) }
.plane.silent { color:var(--down); border-color:var(--down) } .plane.silent .dot { background:var(--down) }
dl { display:grid; grid-template-columns:repeat(auto-fit,minmax(132px,1fr)); gap:10px 18px; margin:14px 0 0 }
dt { color:var(--soft); font-size:12px } dd { margin:0; font-variant-numeric:tabular-nums; overflow-wrap:anywhere }
.reasons { margin:0 0 12px; padding:10px 14px; list-style:none; border-radius:8px; overflow-wrap:anywhere;
  background:color-mix(in srgb,var(--attention) 12%,transparent) }
.down .reasons { background:color-mix(in srgb,var(--down) 12%,transparent); margin-bottom:0 }
details { margin-top:8px }
dl + details,.reasons + details { margin-top:14px; border-top:1px solid var(--line); padding-top:12px }
summary { cursor:pointer; color:var(--soft); font-size:13px }
.scroll { overflow-x:auto }
table { width:100%; border-collapse:collapse; margin-top:8px; font-size:13px }
th { text-align:left; font-weight:500; color:var(--soft); padding:4px 14px 4px 0; white-space:nowrap }
td { padding:5px 14px 5px 0; border-top:1px solid var(--line); vertical-align:top; overflow-wrap:anywhere }
code { font:12.5px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace }
footer { color:var(--soft); font-size:13px; margin-top:22px }
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole page."""
    order = {"down": 0, "attention": 1, "ok": 2}
    nodes = sorted(report["nodes"], key=lambda node: (order[node["status"]], node["name"]))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(_title(report))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(_title(report))}</h1><p>{escape(_time(report['generated']))}</p></header>\n"
        f"{_tiles(report)}{_overview(report)}{''.join(map(_node, nodes))}"
        f"<footer>{escape(_versions(report))}</footer>\n</main>\n</body>\n</html>\n"
    )


def _title(report: Mapping[str, Any]) -> str:
    total, well = len(report["nodes"]), report["statuses"]["ok"]
    if not total:
        return "No gateways"
    return f"All {total} gateways are healthy" if well == total else f"{well} of {total} gateways are healthy"


def _time(generated: str) -> str:
    return generated.replace("T", " ").replace("Z", " UTC")


def _versions(report: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{version} on {count}" for version, count in sorted(report["versions"].items()))
    return f"Versions: {versions}" if versions else "No version is known"


def _tiles(report: Mapping[str, Any]) -> str:
    statuses = report["statuses"]
    tiles = [
        ("ok", str(statuses["ok"]), "gateways healthy"),
        ("attention" if statuses["attention"] else "", str(statuses["attention"]), "need a look"),
        ("down" if statuses["down"] else "", str(statuses["down"]), "down"),
        ("", str(report["tunnels"]), "tunnels connected"),
        ("", f"{report['peers_alive']} / {report['peers']}", "IPv6 peers alive"),
        ("", in_words(report["oldest_poll"]), "since the oldest last poll"),
    ]
    cells = "".join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for kind, value, label in tiles
    )
    return f'<section class="tiles">{cells}</section>\n'


def _overview(report: Mapping[str, Any]) -> str:
    title = _count(report["reservations"], "reservation")
    return f'<section class="card"><h2>{title}</h2>{_verdicts(report["verdicts"])}</section>\n'


def _verdicts(verdicts: Mapping[str, int]) -> str:
    """A bar and its legend; of no verdict, nothing."""
    there = [(name, verdicts[name]) for name in VERDICTS if verdicts.get(name)]
    if not there:
        return ""
    parts = "".join(f'<i style="flex:{count};background:var(--{name})"></i>' for name, count in there)
    names = "".join(
        f'<li><i style="background:var(--{name})"></i><b>{count}</b> {name.replace("_", " ")}</li>'
        for name, count in there
    )
    return f'<div class="bar" style="margin-top:10px">{parts}</div><ul class="legend">{names}</ul>'


def _node(node: Mapping[str, Any]) -> str:
    status = node["status"]
    planes = "".join(
        f'<span class="plane{"" if plane["answers"] else " silent"}"><i class="dot"></i>{escape(plane["name"])}</span>'
        for plane in node["planes"]
    )
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in node["reasons"])
    listed = f'<ul class="reasons">{reasons}</ul>' if reasons else ""
    figures = "" if status == "down" else _verdicts(node["verdicts"]) + _facts(node)
    return (
        f'<section class="card {status}"><div class="top"><h2>{escape(node["name"])}</h2>'
        f'<span class="state {status}">{_WORDS[status]}</span><span class="version">{escape(node["version"])}</span>'
        f'<span class="planes">{planes}</span></div>'
        f"{listed}{figures}{_details(node)}</section>\n"
    )


def _facts(node: Mapping[str, Any]) -> str:
    drift = f"{len(node['drift'])} repaired" if node["repaired"] else str(len(node["drift"]))
    facts = [
        ("drift", drift),
        ("tunnels", str(node["tunnels"])),
        ("IPv6 peers alive", f"{node['peers_alive']} / {node['peers']}"),
        ("last poll", in_words(node["poll_age"])),
        ("answers waiting", str(node["outbox"])),
        ("repaired since start", str(node["repaired_since_start"])),
    ]
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f"<dl>{cells}</dl>"


def _details(node: Mapping[str, Any]) -> str:
    rows = [
        (one["id"], one["type"], one["domain"], one["user"], one["verdict"].replace("_", " "), one["message"])
        for one in node["not_in_sync"][:_MOST_ROWS]
    ]
    found = ""
    if rows:
        found += _fold(
            f"{_count(len(node['not_in_sync']), 'reservation')} not in sync",
            ("id", "type", "name", "user", "verdict", "why"),
            rows,
        )
    if node["drift"]:
        title = f"{_count(len(node['drift']), 'step')} {'carried out' if node['repaired'] else 'to do'}"
        found += _fold(title, (), [(step,) for step in node["drift"][:_MOST_ROWS]])
    if node["node_id"]:
        names = [("node id", node["node_id"]), ("farm", str(node["farm_id"]))]
        names += [("managed domain", name) for name in node["managed_domains"]]
        found += _fold("Identity", (), names)
    return found


def _fold(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [f"<tr>{names}</tr>"] if names else []
    for row in rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    table = f'<div class="scroll"><table>{"".join(lines)}</table></div>'
    return f"<details><summary>{escape(title)}</summary>{table}</details>"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
