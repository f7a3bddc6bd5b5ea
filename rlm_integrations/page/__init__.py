"""``render_page``: a run as one web page that needs no network."""

from rlm_integrations.page.render import render_page

__all__ = ["render_page"]
