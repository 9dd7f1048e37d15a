"""Channels that can be removed for good, and those that shall be: dead ones, and structured pruning."""

from .groups import (
    ChannelGroup,
    Member,
    channel_groups,
    channel_masks,
    channel_scores,
    choose_channels,
    mask_for_channels,
)
from .removal import Cost, Kept, Shrunk, keep_channels, shrink
from .structure import Role

__all__ = [
    "ChannelGroup",
    "Cost",
    "Kept",
    "Member",
    "Role",
    "Shrunk",
    "channel_groups",
    "channel_masks",
    "channel_scores",
    "choose_channels",
    "keep_channels",
    "mask_for_channels",
    "shrink",
]
