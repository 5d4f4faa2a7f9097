-- Rows of compacted files.
select *, filename, file_row_number as row_in_file
from read_parquet([{{files}}], hive_partitioning = true, hive_types = {'dt': date}{{by_name}})
