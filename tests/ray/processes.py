"""The processes of hosts on the nodes of a cluster."""

from __future__ import annotations

from typing import Any

import psutil


def hosts(cluster: Any) -> set[psutil.Process]:
    """Those that live, whoever made them. Other clusters on this machine have their own."""
    raylets = [info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]]
    return {process for raylet in raylets for process in _below(raylet) if _name(process) == "ray::SandboxHost"}


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0].partition(".")[0].partition(" ")[0]
    except psutil.Error:
        return ""
