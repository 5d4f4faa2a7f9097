-- Rows of a night of {{rows}} jobs, number {{night}}: 1.6 files and 1.15 tries each, 3 % failed, as many
-- bytes as real ones have.
select
    job_id, batch, cast(1 as integer) as epoch,
    'results/dt={{date}}/' || batch || '-000001-' || lpad(cast(n // {{shard}} as varchar), 6, '0')
        || '.parquet' as commit_key,
    'parti' as catalog,
    case when outputs = 0 then 'failed' else 'done' end as status,
    case when outputs = 0 then 'job' end as fault,
    case when outputs = 0 then 'the graph was refused' end as error,
    'a photo of ' || md5(cast(n as varchar)) || ' in the style of ' || left(sha, 30) || ', detailed'
        as prompt,
    cast(null as varchar) as negative, x as seed,
    cast(1024 as integer) as width, cast(1024 as integer) as height,
    repeat('w', 64) as workflow_digest, repeat('e', 64) as environment_digest,
    provider, gpu, host, lease_id, cast(tries as integer) as attempt_count,
    t0 as queued_at, t0 + interval 1 second as started_at, t0 + interval 5 second as finished_at,
    cast(1 as double) as queue_s, seconds as gpu_seconds, cast(0.25 as double) as download_s,
    cast(0.0001 as decimal(12, 6)) as usd_marginal, cast(1 as integer) as schema_version,
    n as row, [n] as rows,
    '{"category":"Animals' || (n % 12) || '","challenge":' || (n % 7) || '}' as columns,
    cast([] as varchar[]) as more_columns,
    '{"prompt":"a photo of ' || md5(cast(n as varchar)) || '","seed":' || x || ',"steps":20}' as params,
    cast(range(outputs) as integer[]) as out_index,
    list_transform(range(outputs), lambda i: '9') as out_node,
    list_transform(range(outputs), lambda i: 'images/' || batch || '/' || left(job_id, 2) || '/'
        || job_id || '-' || i || '-' || left(sha, 8) || '.png') as out_uri,
    list_transform(range(outputs), lambda i: left(sha, 62) || lpad(cast(i as varchar), 2, '0'))
        as out_sha256,
    list_transform(range(outputs), lambda i: 1300000 + n % 400000 + i) as out_bytes,
    list_transform(range(outputs), lambda i: case when i = 0 then 'image/png' else 'image/webp' end)
        as out_media,
    list_transform(range(outputs), lambda i: cast(1024 as integer)) as out_width,
    list_transform(range(outputs), lambda i: cast(1024 as integer)) as out_height,
    list_transform(range(outputs), lambda i: 'decoded') as out_verified,
    list_transform(range(outputs), lambda i: md5(batch || n || '-' || i)) as out_pixels,
    list_transform(range(tries), lambda i: batch || '-1-' || n || '-' || i) as att_id,
    list_transform(range(tries), lambda i: lease_id) as att_lease_id,
    list_transform(range(tries), lambda i: provider) as att_provider,
    list_transform(range(tries), lambda i: host) as att_host,
    list_transform(range(tries), lambda i: gpu) as att_gpu,
    list_transform(range(tries), lambda i: t0 + interval 1 second) as att_started_at,
    list_transform(range(tries), lambda i: t0 + interval 5 second) as att_finished_at,
    list_transform(range(tries), lambda i: seconds) as att_gpu_seconds,
    list_transform(range(tries), lambda i:
        case when outputs = 0 or i < tries - 1 then 'failed' else 'done' end) as att_status,
    list_transform(range(tries), lambda i:
        case when outputs = 0 or i < tries - 1 then 'machine' end) as att_fault,
    list_transform(range(tries), lambda i:
        case when outputs = 0 or i < tries - 1 then 'it went away' end) as att_error
from (
    select
        n, x, sha256(cast(n + {{night}} * {{rows}} as varchar)) as job_id,
        sha256('file ' || cast(n + {{night}} * {{rows}} as varchar)) as sha,
        case when x % 100 < 3 then 0 when x % 10 < 7 then 2 else 1 end as outputs,
        case when x % 20 < 3 then 2 else 1 end as tries,
        'night-{{night}}' as batch,
        ['vast', 'modal', 'local'][cast(1 + (x >> 8) % 3 as integer)] as provider,
        'GPU ' || ((x >> 10) % 8) as gpu, 'host-' || ((x >> 14) % 300) as host,
        'night-{{night}}-lease-' || ((x >> 20) % {{leases}}) as lease_id,
        make_timestamp(1770000000000000 + n * 1000) as t0,
        2.0 + cast(x % 1000 as double) / 500 as seconds
    from (select n, hash(n + {{night}} * {{rows}}) as x from range({{rows}}) t(n))
)
order by n
