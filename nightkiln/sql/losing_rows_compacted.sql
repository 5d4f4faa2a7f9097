
    union all
    select batch, job_id, status, finished_at, filename, file_row_number as row_in_file
    from read_parquet([{{files}}], hive_partitioning = false)
        semi join (select distinct batch from fresh) using (batch)
