-- Rows as often as they have outputs, or attempts, with the number of each; then without those
-- that lose. A file whose name says that each of its rows has two is crossed with the numbers 1, 2.
from (
{{parts}}
) anti join _lost using (filename, row_in_file)
