"""Block plugins: a whole distribution, a component, or a component of one distribution.

my-distribution                 everything that the distribution declares
priors:joint                    the prior `joint` of any distribution
my-distribution/priors:joint    the prior `joint` of this distribution, if two declare one
"""

from __future__ import annotations

import os

import attrs

from hebm.distributions import installed_distributions, normalised
from hebm.entry_points import GROUPS, full_group, installed, short_group
from hebm.errors import PluginError
from hebm.suggest import did_you_mean

BLOCK_VARIABLE = "HEBM_BLOCK"
"""Environment variable with the blocks, separated by commas."""


@attrs.frozen
class Block:
    """One block of plugins; None matches anything.

    Arguments:
        distribution: its name, normalised.
        group: the group, such as `hebm_priors`.
        name: the component's name.
    """

    distribution: str | None
    group: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        component = f"{short_group(self.group)}:{self.name}" if self.group else ""
        return "/".join(filter(None, (self.distribution, component)))

    def covers(self, group: str, name: str, distribution: str) -> bool:
        """Return whether this block matches a component of a distribution."""
        wanted = (self.distribution, self.group, self.name)
        return all(mine in (None, theirs) for mine, theirs in zip(wanted, (distribution, group, name), strict=True))


def parsed(text: str) -> Block:
    """Parse `DISTRIBUTION`, `GROUP:NAME` or `DISTRIBUTION/GROUP:NAME`.

    Raises `PluginError` for another form or an unknown group.

    Example:
        >>> parsed("My_Plugins/priors:joint")
        Block(distribution='my-plugins', group='hebm_priors', name='joint')
    """
    head, colon, name = text.strip().partition(":")
    distribution, slash, group = head.rpartition("/") if colon else (head, "", "")
    if (colon and not (name and group)) or (slash and not distribution) or not head or "/" in distribution:
        forms = "DISTRIBUTION, GROUP:NAME or DISTRIBUTION/GROUP:NAME, such as priors:joint"
        raise PluginError(f"cannot block {text.strip()!r}: expected {forms}")
    owner = normalised(distribution) if distribution else None
    if not colon:
        return Block(owner)
    try:
        return Block(owner, full_group(group), name)
    except PluginError as error:
        raise PluginError(f"cannot block {text.strip()!r}: {error}") from None


def from_environment() -> frozenset[Block]:
    """Return the blocks in `HEBM_BLOCK`. Raises `PluginError` if it cannot be parsed."""
    return frozenset(parsed(text) for text in os.environ.get(BLOCK_VARIABLE, "").split(",") if text.strip())


def require_installed(block: Block) -> None:
    """Raise `PluginError` if a block matches nothing that is installed, since its name may be mistyped."""
    groups = GROUPS if block.group is None else (block.group,)
    there = [(group, name, normalised(o.distribution or "")) for group in groups for name, o in installed(group)]
    unreadable = {normalised(one.distribution) for one in installed_distributions().unreadable}
    if any(block.covers(*one) for one in there) or block.distribution in unreadable:
        return
    owners = sorted({owner for _, name, owner in there if block.name in (None, name)})
    if block.name is None:
        owner = str(block.distribution)
        hint = f"{did_you_mean(owner, owners)} (installed: {', '.join(owners)}; for one component write GROUP:NAME)"
        raise PluginError(f"cannot block {owner!r}: no distribution of this name has plugins{hint}")
    if owners:
        raise PluginError(f"cannot block '{block}': {block.name!r} is declared by {' and '.join(owners)} only")
    hint = did_you_mean(block.name, {name for _, name, _ in there})
    raise PluginError(f"cannot block '{block}': {short_group(str(block.group))} has no {block.name!r}{hint}")
