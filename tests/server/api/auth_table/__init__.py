"""What the actions of the `auth` controller answer, row by row, as contract/02 has it.

`rows` says what a row is and runs one; the other modules hold the rows, `made` what they start
from.
"""
