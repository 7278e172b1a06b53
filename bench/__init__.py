"""Measures manykeys beside bare servers and libraries; README.md says what each number means."""
