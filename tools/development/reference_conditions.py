"""The chapter of docs/configuration.md about the conditions of rules; see
tools/development/reference.py.

What is said here is held to the language by tests/engine/rules/test_conditions.py, which reads the
example.
"""

from typing import Final

from engine import limits

CONDITIONS: Final = f"""\
## Conditions

`when` of a routing or prefetch rule is a table, one entry for each condition. All must hold.

```toml
[[rules]]
name = "CT and MR to the archive"
to = ["archive"]
[rules.when]
Modality = ["CT", "MR"]                      # one of these
StationName = "CT*"                          # * any characters, ? one; case counts
SeriesNumber = {{ from = 1, to = 99 }}         # both included; one of the two is enough
StudyDate = {{ from = 2020-01-01 }}            # or "20200101"
PatientAge = {{ from = "018Y" }}               # ages compare as time: 012M is 001Y
BodyPartExamined = {{ not = ["HEAD", "NECK"] }}
SeriesDescription = {{ regex = "(?i)scout|topo" }}
"(0018,0022)" = {{ present = false }}          # absent or empty
calling_ae_title = "CT_?"
receiving_ae = "storage_scp"
time = "18:00-06:00"
weekdays = ["mon-fri"]
```

| on the left | what is looked at |
|---|---|
| a keyword of the DICOM dictionary, or `"(gggg,eeee)"` | an element at the top of the data set, \
before the pixel data. Not sequences and bulk data. Private elements are read as text. |
| `calling_ae_title`, `called_ae_title` | the titles of the association |
| `receiving_ae` | the table of the AE that received it: `"storage_scp"`, `"prefetch_scp"`, \
`"secured_scp"` |
| `time` | the time of reception by this machine's clock: a span or a list of spans, the end not \
included; one that ends before it begins goes over midnight |
| `weekdays` | the day of reception: `"mon"` to `"sun"`, spans such as `"mon-fri"`, or a list |

| on the right | holds when |
|---|---|
| a value | the value is that one. Text may have wildcards; numbers compare as numbers, so `1` is \
`01`; names match in any of their three groups, without regard to case, width and accents |
| a list of values | one of them does; at most {limits.condition_values_max} |
| `{{ is = ... }}` | the same, to be combined with the others |
| `{{ not = ... }}` | none of these does; also when the attribute is absent |
| `{{ from = ..., to = ... }}` | the value lies between them, as numbers, dates, times, ages or \
text, by the attribute's value representation |
| `{{ regex = "..." }}` | the expression occurs in the value; `^` and `$` for the whole of it. \
Python's syntax without look-around and back references, so that no value can make it run for \
ever; `(?i)` at its start ignores case |
| `{{ present = true }}`, `false` | there is a value, or there is none |

Several parts in one table must all hold. Of an attribute with several values any one may match.
Conditions look at what was received; corrections (`scai edit`) do not change what a rule said.
All rules together may ask for {limits.rule_attributes_max} attributes beyond those of the index.

What arrives at `prefetch_scp` was asked for by the gateway itself: it is routed only by rules with
a condition on `receiving_ae`, or goes where its prefetch rule says (`to`). An instance that is
received again is sent again.

`scai rules test FILE` says which rules a file matches and on which conditions others fail. Exit
code 0: it would be sent to somebody, or an archive would be asked.
"""
