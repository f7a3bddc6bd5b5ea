"""For tests of code that uses this package: a scripted model, and the promises every sandbox keeps."""

from rlm_integrations.testing.model import ScriptedCall, ScriptedModel
from rlm_integrations.testing.sandbox import SANDBOX_CHECKS, check_sandbox

__all__ = ["SANDBOX_CHECKS", "ScriptedCall", "ScriptedModel", "check_sandbox"]
