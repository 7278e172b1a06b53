"""The chapters of a run; each has one `measure(stage)` that gives its numbers."""
