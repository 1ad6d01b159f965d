"""See, understand and change krata's image cache: a library, a screen and a command line.

The house, for who comes new. Each room may import from those below it, and none from those above; what others may take
from it stands in its `__init__`, its front::

    cli         the command line: main, options, output; commands/, a file for those that belong together
    tui         the screen: app, session, live; screens/<screen>.py, widgets/
    words       a finding, a plan, an assessment, an import in words, for both
    help        the texts of `ocitui help`, of the screen's `?` and of the man pages
    remote      other hosts: the way there by ssh, what is read of their caches, many side by side
    doctor      check (one judge of an entry's state), repair, salvage, assessment, why, report
    importing   sources, registry, layers, packing: an image from elsewhere to a packed file
    contents    inside a packed file: its tree, read here
    host        what the host knows beside the cache: its daemon, its loop devices
    cache       one directory, one index, the daemon's rules; every change. A library of its own
    text, threads, directory, front, last_resort: the ground

How an index is read and shown: `cache.watch` notices the rename, `cache.index` reads, knows where each descriptor
stands and decodes it when it is asked for; `tui.live` has the judge look at what changed, and tells the screen which
rows to draw.

How a deletion is made: `cli.commands.delete`, or the screen's plan, asks `cache.PackerCache` for a plan and, once that
is confirmed, to carry it out; `cache.changes` makes a `Change` of it; `cache.transactions` records it, moves the files
to the trash (`cache.workspace`), publishes the index (`cache.publish`) and marks the record done. After a crash the
next writer finishes it or rolls it back; `cache.undoing` makes the change that reverses it.
"""

__version__ = "0.1.0"
