"""Judging predictions against annotations, under the published protocol and a strict one."""
