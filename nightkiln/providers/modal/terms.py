"""How the app on Modal is built and used: every setting of the provider, with its default."""

from __future__ import annotations

from dataclasses import dataclass, field

APP = "nightkiln"
GPUS = ("L40S", "A100-40GB")
VOLUME = "nightkiln-models"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in wall seconds; only tests are in more of a hurry than this."""

    first_contact_s: float = 10.0  # the SDK itself gives up after 56 s
    answer_s: float = 30.0  # any later call, with the SDK's own three repeats
    spawn_s: float = 30.0  # for which a spawn is tried again that was refused for its pace
    upload_s: float = 120.0  # a spawn with its input files
    poll_s: float = 10.0  # one wait for a result
    over_s: float = 20.0  # until a call that was cancelled is seen to be over
    fresh_s: float = 60.0  # the service is asked again whether the app is there
    rates_s: float = 6 * 3600.0  # prices are asked for again
    start_s: float = 120.0  # what a container's start is taken to cost before one was seen
    exit_s: float = 2.0  # for a container to end when its idle window is over; billed, too


@dataclass(frozen=True, slots=True)
class ModalTerms:
    """Everything that can be set; frozen, free of secrets, printable."""

    app: str = APP
    environment_name: str = ""  # Modal's own kind of environment; empty: the account's usual one
    gpus: tuple[str, ...] = GPUS  # in order of preference, as a deploy sends them
    cpu: float = 2.0  # cores
    memory_mib: int = 16384
    timeout_s: int = 600  # one call
    startup_timeout_s: int = 300  # of a container, until ComfyUI answers
    scaledown_s: int = 15  # an idle container ends; until then it is billed
    max_containers: int = 4
    snapshot: bool = False
    volume: str = VOLUME
    result_bytes_max: int = 64 * 2**20  # all files of one job together
    fleet: str = "main"  # which of the user's set-ups this is, for the reaper
    limits: Limits = field(default_factory=Limits)
