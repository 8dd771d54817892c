"""What is told about objects, jobs and the store. Times are in seconds, sizes in bytes."""
from __future__ import annotations

from typing import NamedTuple, Optional


class Stat(NamedTuple):
    object: int  # id, never used again
    version: int  # grows with each commit to the job; never 0
    size: int  # of a directory: the number of objects directly in it
    age: float
    ttl_left: Optional[float]  # None: it has no time to live
    reads_left: Optional[int]  # None: any number
    extents: int  # 0: a small value
    tier: str
    is_directory: bool
    attributes: bytes


class Entry(NamedTuple):
    name: str  # below the listed directory; a directory's ends in "/"
    stat: Stat


class JobInfo(NamedTuple):
    id: int
    name: str
    has_ended: bool
    has_expired: bool  # it has ended because nobody renewed its lease
    lease_left: float
    objects: int
    object_bytes: int
    dram_bytes: int  # that it holds now, open space included
    quota_dram: Optional[int]
    dram_byte_ms: int  # the integral of dram_bytes over time: the bill


class StoreInfo(NamedTuple):
    dram_limit: int
    dram_used: int
    dram_clean: int
    value_bytes: int
    segments: int
    objects: int
    jobs: int
    sessions: int
    parked: int
    uptime: float
    dram_byte_ms: int
    forgotten_byte_ms: int
    is_partial: bool
    lingering_bytes: int


def job_info_of(id: int, name: str, has_ended: bool, has_expired: bool, lease_left_ms: int, objects: int,
                object_bytes: int, dram_bytes: int, quota_dram: int, high: int, low: int) -> JobInfo:
    return JobInfo(id, name, has_ended, has_expired, lease_left_ms / 1000, objects, object_bytes, dram_bytes,
                   quota_dram or None, high << 64 | low)


def store_info_of(*n: int) -> StoreInfo:
    return StoreInfo(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9] / 1000, n[10] << 64 | n[11],
                     n[12] << 64 | n[13], bool(n[14]), n[15])
