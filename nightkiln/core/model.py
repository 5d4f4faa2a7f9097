"""The nouns. Frozen, comparable, free of I/O; every other module speaks in these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, NewType, TypeAlias

JobId = NewType("JobId", str)  # sha256 hex over everything that shapes the pixels
LeaseId = NewType("LeaseId", str)  # ours, chosen before renting, so that a retry cannot rent twice
AttemptId = NewType("AttemptId", str)  # unique in the life of a store: <batch>-<epoch>-<number>
Ticket = NewType("Ticket", str)  # names one submitted job at one worker; another process may ask it
Host: TypeAlias = tuple[str, str]  # a machine: its provider, and the provider's name for it
Usd = Decimal

Value: TypeAlias = str | int | float | bool  # what a catalog row can put into a node's input
Graph: TypeAlias = dict[str, dict[str, Any]]  # ComfyUI API format: node id -> class_type, inputs


class Fault(StrEnum):
    """Whose fault a failure is; the one thing that decides what happens next."""

    JOB = "job"  # the same job fails everywhere: a rejected graph, a missing input
    MACHINE = "machine"  # this machine is bad: out of memory, damaged files, stalled
    MARKET = "market"  # nobody's fault: outbid, evicted, throttled
    OURS = "ours"  # our catalog, environment or code: no machine is to blame
    UNKNOWN = "unknown"  # could be the job or the machine; another machine will tell


class Loss(StrEnum):
    """Why a lease is gone."""

    GONE = "gone"  # somebody else was faster: it never was ours
    REFUSED = "refused"  # the provider's service failed: no machine is to blame
    STARTUP = "startup"  # it did not come up, and said so
    SLOW = "slow"  # it did not come up within its limit
    MARKET = "market"  # taken back: outbid, evicted
    LOST = "lost"  # it stopped answering


class Trust(StrEnum):
    """What is known of who runs a machine; each is more than the one before."""

    ANY = "any"
    VERIFIED = "verified"  # looked at by the service that rents it out
    DATACENTER = "datacenter"  # a company that runs it for others

    def is_enough(self, wanted: Trust) -> bool:
        """Whether something that asks for ``wanted`` may be rendered there."""
        order = tuple(Trust)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, slots=True)
class Need:
    """What a batch asks of a machine."""

    vram_gb: float = 0
    disk_gb: float | None = None  # None: derived from the models (``auto``)
    gpus: tuple[str, ...] = ()  # GPU names that will do; empty: any
    trust: str = "any"  # any | verified | datacenter


class Kind(StrEnum):
    """How a machine is had, which decides what it costs and how it is lost."""

    LOCAL = "local"  # it is there anyway
    ON_DEMAND = "on_demand"  # ours until we release it
    INTERRUPTIBLE = "interruptible"  # cheaper, and whoever bids more takes it
    SERVERLESS = "serverless"  # dear, quick to start, reliable: what a fallback is made of


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine, or a serverless slot, that we could have, with its price in parts."""

    provider: str
    ref: str  # the provider's own name for it; opaque to us
    gpu: str = "unknown"
    usd_per_hour: Usd = Decimal(0)  # of the machine while it runs
    startup_s: float = 60.0  # how long ``connect`` may take before it is given up
    slots: int = 3  # jobs handed out at once, so that the GPU never waits for a download
    kind: Kind = Kind.LOCAL
    machine: str = ""  # the same for every offer of one machine; empty: ``ref`` names it
    storage_usd_per_hour: Usd = Decimal(0)  # of the disk that we would rent, from rent to release
    usd_per_gb_in: Usd = Decimal(0)  # traffic into the machine: image and models
    usd_per_gb_out: Usd = Decimal(0)  # traffic out of it: results
    mbps_in: float | None = None  # megabits per second into the machine, as advertised
    reliability: float = 1.0  # 0..1, as advertised
    vram_gb: float | None = None
    region: str = ""
    loading_billed: float = 1.0  # share of ``usd_per_hour`` billed while the image is pulled
    idle_tail_s: float = 0.0  # billed after the last job, as serverless containers linger
    trust: str = "any"  # any | verified | datacenter: what is known of who runs the machine

    @property
    def host_key(self) -> Host:
        """Which machine this is: what a scorecard and a blocklist remember."""
        return (self.provider, self.machine or self.ref)

    @property
    def is_serverless(self) -> bool:
        """Whether it belongs to a fallback."""
        return self.kind is Kind.SERVERLESS

    @property
    def trusted_as(self) -> Trust:
        """What is known of who runs the machine.

        The user's own machines are as good as a datacenter's, and serverless GPUs are one's. A
        word that nobody knows says nothing.
        """
        if self.kind in {Kind.LOCAL, Kind.SERVERLESS}:
            return Trust.DATACENTER
        return Trust(self.trust) if self.trust in set(Trust) else Trust.ANY

    @property
    def is_free(self) -> bool:
        """Whether nothing is paid for it."""
        return self.usd_per_hour == 0 and self.storage_usd_per_hour == 0


@dataclass(frozen=True, slots=True)
class Lease:
    """A machine, or slot, that we pay for."""

    id: LeaseId
    offer: Offer
    host: str = "unknown"  # what to blame and to show: a host name or address, never a secret

    @property
    def provider(self) -> str:
        return self.offer.provider


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that a job reads; uploaded under its digest, bound under the name that comes back."""

    path: str  # local path, readable by the controller
    sha256: str  # hex, of the whole file
    size: int  # bytes
    suffix: str  # ".png": ComfyUI picks a reader by it


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One line of the catalog that asked for a job: its number, and what its columns say."""

    number: int  # 0-based, in the order of the catalog
    columns: Mapping[str, Any] = field(default_factory=dict)  # JSON-safe


@dataclass(frozen=True, slots=True)
class Job:
    """One execution of one bound workflow."""

    id: JobId
    values: Mapping[
        str, Value
    ]  # input name in catalog.yaml -> value; a file input holds its sha256
    files: Mapping[str, InputFile] = field(default_factory=dict)  # input name -> file
    rows: tuple[CatalogRow, ...] = ()  # every catalog row that means these pixels, first first


@dataclass(frozen=True, slots=True)
class BoundJob:
    """A job as a worker takes it: a complete graph, but for the names of uploaded files."""

    id: JobId
    graph: Graph
    files: tuple[BoundFile, ...] = ()
    outputs_expected: int | None = None  # files the graph must give, where that can be told


@dataclass(frozen=True, slots=True)
class BoundFile:
    """Where in the graph the uploaded name of an input file goes."""

    file: InputFile
    targets: tuple[tuple[str, str], ...]  # (node id, input name)


@dataclass(frozen=True, slots=True)
class Timings:
    """When one attempt happened. Times are epoch seconds (UTC) by the controller's clock."""

    submitted_s: float
    finished_s: float
    gpu_s: float  # by the worker's own timestamps, never more than what we saw pass
    download_s: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """What a verified output file is, told from its bytes and from nothing the worker said."""

    sha256: str
    size: int  # bytes
    media: str  # sniffed media type: image/png, video/mp4, ...
    ext: str  # "png": from the sniffed bytes
    width: int | None = None  # pixels; None where the kind has none or we do not decode it
    height: int | None = None
    verified: str | None = None  # decoded | read | checksum: how closely it was looked at
    pixels: str | None = None  # digest of a PNG's pixels alone: equal where only metadata differs


@dataclass(frozen=True, slots=True)
class Output:
    """A verified output, in the store under ``uri``."""

    index: int  # 0-based within the job, in the order of output nodes
    node: str  # id of the node in the graph that made it
    uri: str  # key relative to the store's root
    facts: OutputFacts


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one job on one lease, over."""

    id: AttemptId
    lease_id: LeaseId
    provider: str
    host: str
    gpu: str
    started_s: float  # epoch seconds, handed to the worker
    finished_s: float
    gpu_s: float
    status: str  # done | failed | lost | cancelled
    fault: Fault | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A job at its end: one verified result, one explained failure, or a result we already had."""

    job: Job
    status: str  # done | failed | reused
    outputs: tuple[Output, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    fault: Fault | None = None  # of a failed job
    error: str | None = None
    queued_s: float = 0.0  # epoch seconds, entered the run's queue
    finished_s: float = 0.0
    download_s: float = 0.0
    usd_marginal: Usd = Decimal(0)


@dataclass(frozen=True, slots=True)
class BatchId:
    """What every row of a run has in common."""

    batch: str
    epoch: int
    date: str  # YYYY-MM-DD, the batch's, not the run's: the ``dt=`` of its keys
    catalog: str
    workflow_digest: str
    environment_digest: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a lease costs, in parts."""

    gpu: Usd = Decimal(0)
    storage: Usd = Decimal(0)
    traffic_in: Usd = Decimal(0)
    traffic_out: Usd = Decimal(0)
    gpu_s: float = 0.0  # billed at the full rate; those of a lower one count for their share
    gb_in: float = 0.0
    gb_out: float = 0.0

    @property
    def usd(self) -> Usd:
        return self.gpu + self.storage + self.traffic_in + self.traffic_out


@dataclass(frozen=True, slots=True)
class LeaseEnd:
    """A lease that is over and, once it is released, costs nothing any more."""

    lease: Lease
    rented_s: float  # epoch seconds, like all three
    ready_s: float | None  # None: it never came up
    released_s: float | None  # None: nobody confirmed it, so it may still cost money
    reason: str
    jobs_done: int
    attempts_failed: int
    busy_s: float  # GPU seconds of all its attempts
    cost: Cost = field(default_factory=Cost)  # by our own count
    is_late: bool = False  # told by a run that did not rent it, or after it was given up

    @property
    def usd(self) -> Usd:
        return self.cost.usd
