"""The chapter of docs/configuration.md about prefetching; see tools/development/reference.py.

The example is read by tests/engine/prefetch/test_prefetch_rules.py.
"""

from typing import Final

from engine import limits

PREFETCHING: Final = f"""\
## Prefetching

```toml
[[remotes]]
name = "archive"                             # knows PrefetchAP: this host, port of [prefetch_scp]
ae_title = "PACS"
host = "pacs.example.org"
port = 104

[[remotes]]
name = "reading room"
ae_title = "VIEW_1"
host = "10.1.2.3"
port = 11112

[[prefetch]]
name = "CT and MR priors"
archive = "archive"
within = "5 years"                           # before the StudyDate of what arrives
modalities = ["CT", "MR"]                    # of the studies that are looked for
at_most = 3                                  # of them, the latest
to = ["reading room"]                        # besides staying here
[prefetch.when]                              # what arrives and starts it
Modality = ["CT", "MR"]
```

An instance that fulfils `when` makes a job, one for its study: once the study is quiet \
(`quiet_s`), the archive is asked for studies of the same Patient ID, then for their series and \
images, and what is not here yet is moved to `prefetch_scp`. A Patient ID that is empty or holds \
`*`, `?` or a backslash is not asked for. Jobs are worked off one after another, on one \
association at a time.

What `to` names gets each instance of the related studies once: those that arrive, as they arrive \
(up to {limits.prefetch_late_s // 60} minutes after the job has ended), and those that were here \
already, when their study's turn has come. Of studies narrowed down with `series_modalities` it \
gets these series. The queue shows such deliveries as asked for by `prefetch` and the rule's name. \
A routing rule with `receiving_ae = "prefetch_scp"` sees what arrives, too; a remote AE named by \
both gets it once.

`scai rules test FILE` says what a file would have asked, key by key; `scai prefetch` what was \
asked and came of it.
"""
