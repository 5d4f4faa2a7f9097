"""What may be rented at Vast.ai and how: every setting of the provider, with its default.

The defaults of the filters are the ones that Vast's own tools and other renters' batch systems have
settled on; each is a floor or a ceiling in the service's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nightkiln.core.model import Kind

URL = "https://console.vast.ai"
IMAGE = "vastai/comfy:v0.8.2-cuda-12.9-py312"
IMAGE_GB = 12.0  # compressed, as it is pulled


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in wall seconds; only tests are in more of a hurry than this."""

    answer_s: float = 30.0  # one call, until it counts as unanswered
    list_s: float = 60.0  # a complete listing, with repeats
    search_s: float = 60.0  # a search, with repeats
    release_s: float = 120.0  # a release until it is confirmed
    ambiguous_s: float = 600.0  # how long a machine is looked for whose creation nobody confirmed
    farewell_s: float = 30.0  # for what is still in doubt when the provider is closed
    appear_s: float = 60.0  # from creation until a machine must be in the listing
    look_again_s: float = 2.0  # between listings, while something destroyed is still listed
    destroy_again_s: float = 15.0  # a destroyed machine that is still listed is destroyed again
    offline_s: float = 60.0  # a machine without contact to the service is given up after that
    scheduling_s: float = 45.0  # a stopped machine that waits for its GPU has been outbid
    pace: float = 1.0  # x the seconds that the service wants between calls
    stopping_s: float = 20.0  # an ended container is outbid, if the next listing says so


@dataclass(frozen=True, slots=True)
class VastTerms:
    """Everything that can be set; frozen, free of secrets, printable."""

    url: str = URL  # no trailing slash
    fleet: str = "main"  # which of the user's set-ups a machine belongs to: [a-z0-9]{1,12}
    kinds: tuple[Kind, ...] = (Kind.ON_DEMAND, Kind.INTERRUPTIBLE)
    usd_per_hour_max: float = 2.0  # machine and disk together; dearer offers are not looked at
    bid_premium: float = 1.25  # x the lowest bid that wins, never above the on-demand price

    image: str = IMAGE  # container image with ComfyUI, its tag pinned
    image_gb: float = IMAGE_GB
    disk_gb: float | None = None  # to rent at least; None: what image, models and results need
    launch: str | None = None  # what starts the image's programs; None: ``entrypoint.sh``
    comfy_folder: str | None = None  # ComfyUI's folder in the image; None: the usual places

    # What is searched for. ``None`` or an empty tuple leaves a filter out.
    is_verified: bool = True  # machines that the service has verified
    reliability_min: float | None = 0.98  # 0..1
    mbps_down_min: float | None = 400.0
    mbps_up_min: float | None = 100.0
    disk_mb_per_s_min: float | None = 500.0
    direct_ports_min: int = 4  # we need one, for SSH; hosts with few are soon without
    cuda_min: float = 12.8  # sent together with ``compute_cap_min``: alone it hides good machines
    compute_cap_min: int = 750  # x 100: 7.5 and newer
    cpu_arch: str | None = "amd64"
    duration_s_min: float | None = 4 * 3600.0  # until the host takes the machine off the market
    usd_per_gb_max: float | None = 0.01  # of traffic into the machine
    gpus: tuple[str, ...] = ()  # names that will do, beside what the catalog asks
    regions: tuple[str, ...] = ()  # country codes, or names of regions.py; empty: anywhere
    regions_not: tuple[str, ...] = ()
    machines_not: tuple[str, ...] = ()  # ids of machines that are not wanted
    offers_max: int = 500  # of one search

    startup_s: float = 1800.0  # from creation to the first job at most; the scheduler allows less
    stall_s: float = 600.0  # without progress of a job: the machine counts as stalled
    deadman_s: float = 900.0  # without a heartbeat for so long, a machine destroys itself
    poll_s: float = 10.0  # one listing for all leases each
    limits: Limits = field(default_factory=Limits)
