"""The browser, for the tests that drive the page in it."""

from tests.helpers.browser import chromium

__all__ = ["chromium"]
