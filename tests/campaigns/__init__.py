"""Campaigns: many seeded attacks on one promise each, with figures.

`make fuzz`, `make faults`, `make privacy` and `make load` run them whole; `tests/robustness` runs
their short forms. Each is a module with the same options, see :mod:`tests.campaigns.report`.
"""
