"""RLMs on a Ray cluster."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rlm_integrations.errors import MissingExtra

if find_spec("ray") is None:
    raise MissingExtra("ray", "rlm_integrations.ray")

if TYPE_CHECKING:
    from rlm_integrations.ray.dataset import answer_dataset
    from rlm_integrations.ray.limits import JobLimits, JobProgress
    from rlm_integrations.ray.sandbox import RaySandbox

__all__ = ["JobLimits", "JobProgress", "RaySandbox", "answer_dataset"]


def __getattr__(name: str) -> Any:
    """What is public is loaded when it is first asked for: Ray takes a second to import."""
    if name == "RaySandbox":
        from rlm_integrations.ray.sandbox import RaySandbox

        return RaySandbox
    if name in ("JobLimits", "JobProgress"):
        from rlm_integrations.ray import limits

        return getattr(limits, name)
    if name == "answer_dataset":
        from rlm_integrations.ray.dataset import answer_dataset

        return answer_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
