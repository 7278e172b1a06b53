"""What the actions of the `auth` controller answer, row by row, as docs/api/auth.md has it.

`rows` says what a row is and runs one; the other modules hold the rows, `made` what they start
from.
"""
