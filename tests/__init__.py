"""Tests, and what they need; what is compiled is built before any of them imports it."""

from tests.services.extension import build_in_place

build_in_place()
