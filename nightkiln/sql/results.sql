-- Every row of every shard, as committed. filename and row_in_file tell two copies of a row apart.
create or replace view _results as
select *, filename, file_row_number as row_in_file
from read_parquet('{{root}}results/*/*.parquet', hive_partitioning = true, hive_types = {'dt': date}{{by_name}}){{more}};
