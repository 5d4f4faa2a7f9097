-- manifest {{manifest}}: every row of every compacted file. A job is in one of them at most.
create or replace view _compacted as
{{compacted}};
-- Every row of the shards that no compacted file replaces. What is replaced stays until nobody can
-- have older views than these.
create or replace view _fresh as
select *, filename, file_row_number as row_in_file
from read_parquet('{{root}}results/*/*.parquet', hive_partitioning = true, hive_types = {'dt': date}{{by_name}}){{where}};
-- Every row, as committed. filename and row_in_file tell two copies of a row apart.
create or replace view _results as
from _compacted union all by name from _fresh{{more}};
