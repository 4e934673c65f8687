"""Every bound of the product, each with its reason, and the relations between them.

Everybody imports from here; nobody writes a bound elsewhere. Units stand last in the names. The
relations are asserted at import, so a change that breaks one cannot start.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

# --- the conformance statement's constants ("not configurable") -------------------------------
# Tables 4.2-3, 4.2-19: what is advertised in both directions and the most that is ever sent.
pdu_bytes_advertised: Final = 16378
# A peer that ignores what was advertised is tolerated up to DCMTK's ceiling (ASC_MAXIMUMPDUSIZE),
# counted and logged once per association; beyond it the association is aborted.
pdu_bytes_tolerated: Final = 131072
# PDV header and two bytes of payload: below, no fragment of even length can be sent to a peer.
pdu_bytes_useful_min: Final = 8
associations_storage_max: Final = 5  # Tables 4.2-4 and 4.2-20, per AE title and port
associations_prefetch_max: Final = 1  # Tables 4.2-52 and 4.2-61
# By choice: a thread and a ring for each, so 64 are 256 MiB of rings. Tried with 50.
associations_most: Final = 64
# What can only verify holds none of those: as many again, so that five may verify as the tables
# say, whatever is stored meanwhile. PrefetchAP has one of each.
verifications_most: Final = 64
associations_echo_max: Final = 1  # Table 4.2-11
operations_outstanding_max: Final = 1  # answered 1/1 wherever a peer proposes a window

# --- association set-up ------------------------------------------------------------------------
# 128 contexts of 38 transfer syntaxes are about 150 kB; a stray HTTP request read as a length is
# far above. DCMTK takes 1 MiB; four times less is enough and bounds what a stranger can pin.
associate_bytes_max: Final = 256 * KIB
presentation_contexts_max: Final = 128  # PS3.8 9.3.2.2: odd identifiers 1 to 255
transfer_syntaxes_per_context_max: Final = 256  # the dictionary has fewer than 100
uid_characters_max: Final = 64  # PS3.5 9.1
ae_title_characters_max: Final = 16  # PS3.5 6.2, VR AE
# Connections that have not been accepted yet. Over it, the one that has been silent for longest
# is closed: a port scanner costs itself its place, never a modality.
connections_pending_max: Final = 256

# --- who gives way (engine/upper_layer/slots.py) -----------------------------------------------
# Bytes of data sets that count as progress: a small image has more, and with five seconds of
# patience it is a tenth of what the slowest line to a modality gives (ISDN, 8 kB a second).
slot_progress_bytes: Final = 8 * KIB
# Half a megabit a second: whoever sends less has to give way to an equal, when all is full.
slot_bytes_per_s: Final = 64 * KIB
hosts_known_max: Final = 4096  # a hospital's modalities many times over; 100 bytes each
# A host that held a slot for nothing counts for less for so long, or until it used slots for this
# long: twice what one may be held by an equal that does nothing.
barren_s: Final = 300
redeemed_s: Final = 10

# Names of refused contexts in one log line: a scanner proposes some twenty at most that we refuse,
# a hostile peer 128 with 256 syntaxes each.
refused_contexts_logged_max: Final = 20
refused_syntaxes_logged_max: Final = 4

# --- associations of our own -------------------------------------------------------------------
# What is read at a time where we asked: an answer is a few hundred bytes, the results of a query
# come in rows.
answer_bytes_per_read: Final = 64 * KIB
# A queue sends to a few peers in a few forms, and each time asks, and is answered, the same.
proposals_cached_max: Final = 256
accept_bytes_cached_max: Final = 4 * KIB  # an accept of one context has about 200 bytes
# With an association for each instance a name would be looked up for each; a peer that moves to
# another address is found again this much later.
address_cached_s: Final = 10
# `scai echo --all`: connections that are being opened at once. The associations on them are
# opened one after the other (associations_echo_max), each on a connection that has waited no
# longer than this, for a peer's own time-out runs from the connect.
echo_connections_max: Final = 16
echo_connection_wait_s: Final = 1

# --- DIMSE -------------------------------------------------------------------------------------
# A C-STORE-RQ command set is about 200 bytes; the largest legal one (C-FIND-RSP with an offending
# element list) stays below 8 kB.
command_bytes_max: Final = 16 * KIB
error_comment_characters_max: Final = 64  # (0000,0902) has VR LO
# An identifier that answers a C-FIND of ours has a dozen short elements; a peer that adds a
# thumbnail's worth of its own is read, one that sends an image is not.
identifier_bytes_max: Final = 256 * KIB

# --- time --------------------------------------------------------------------------------------
application_timeout_s_min: Final = 1  # section 4.4: [1-60] s, default 5
application_timeout_s_max: Final = 60
application_timeout_s_default: Final = 5
connect_timeout_s_default: Final = 5  # a SYN is sent three times in it
release_timeout_s_default: Final = 5
# A receiver that compresses, or writes to a slow archive, before it answers takes many seconds for
# a large instance. One that is given up on has most likely taken what it is then sent once more.
response_timeout_s_default: Final = 60
response_timeout_s_max: Final = 3600
retry_count_min: Final = 1  # section 4.4: [1-10], default 1
retry_count_max: Final = 10
retry_count_default: Final = 1
# A modality may hold an association open between two series; a vanished one must not hold its
# slot for ever. Five minutes is what scanners' own idle time-outs stay below.
idle_timeout_s_default: Final = 300
idle_timeout_s_max: Final = 86400
# A whole message: so long, and a second more for each KiB of it that came. ISDN is eight times as
# fast; without it one byte in five seconds would hold a slot for ever.
message_timeout_s_default: Final = 60
message_bytes_per_s_min: Final = 1 * KIB
# A response is at most a few hundred bytes, and no peer that waits for it has a second one on its
# way: what the buffer below does not take, after so long, is for a peer that does not read.
send_timeout_s: Final = 10
answer_buffer_bytes: Final = 64 * KIB  # the kernel's for our answers; it would let it grow to 4 MiB
abort_linger_s: Final = 0.2  # at the end of a drain, for the aborts to leave
drain_timeout_s_default: Final = 30
drain_timeout_s_max: Final = 600

# --- the way of an instance ---------------------------------------------------------------------
page_bytes: Final = 4096  # alignment of rings, file offsets and direct writes
# One ring for each association: eight CT instances deep, so that the socket is read while the
# disk writes, and small enough that five of them stay in a server's last-level cache or near it.
ring_header_bytes: Final = page_bytes  # ahead of each ring in the shared segment
ring_bytes_default: Final = 4 * MIB
ring_bytes_min: Final = 1 * MIB
ring_bytes_max: Final = 256 * MIB
# Rings beyond the association limit: a closed association's last instance may still be on its way
# to the disk when its successor is accepted.
ring_slots_spare: Final = 2
# Instances up to this size travel inside the journal record (one write, one sync for all that
# wait); larger ones go straight to their own file.
inline_bytes_max: Final = 128 * KIB
write_bytes: Final = 1 * MIB  # one direct write of what streams; a quarter of a smaller ring
receive_bytes_per_turn: Final = 1 * MIB  # then the next association has its turn
# What handling one event counts of that: a turn of nothing but small requests takes some 10 ms,
# and not so long that the process is taken for hung.
receive_bytes_per_event: Final = 8 * KIB
# The native turn goes on for so long while there is something to do, since coming back to it by way
# of the event loop cost 7 % of a small instance; everything else waits no longer for it.
receive_turn_us: Final = 1000
# Kept of one attribute's value for the index. Three component groups of 64 characters in JIS with
# escapes are below 600 bytes.
attribute_bytes_max: Final = 1024
attributes_bytes_max: Final = 64 * KIB  # of one instance, all wanted attributes together
# Sequences nested in each other before we give up. Real ones stay below 20, some writers of private
# elements reach 100. Nothing recurses: a level costs a stack entry of some 300 bytes in Python.
sequence_depth_max: Final = 1024
# Text of one data set that is written anew in another character set, kept until it is sent. The
# reports of real studies stay far below; what is longer stays unsent with that reason.
transcoded_bytes_max: Final = MIB
# Items of its sequences that are given the former character set, likewise: their places are kept.
marked_items_max: Final = 64 * KIB

# An earlier value told beside its correction. Those that can be corrected have 64 characters, names
# three times as many, of 8 bytes at most with escape sequences; what is longer is no such value.
original_value_bytes_max: Final = 16 * KIB

# --- journal ------------------------------------------------------------------------------------
journal_segment_bytes: Final = 32 * MIB  # made once in about 50 ms, then recycled
journal_segments_max: Final = 8  # a worker whose indexer is this far behind waits: back-pressure
# So long it waits for the indexer; then the status of `out_of_resources_status`, because peers give
# up on a response after 10 to 30 s.
journal_wait_ms_max: Final = 5000
journal_group_max: Final = 64  # records under one sync; more than all associations of a worker
# Large instances acknowledged by their sealed files before the journal names them: at full speed
# a tenth of a second's. Beyond that they wait for their records as well: back-pressure.
sealed_instances_max: Final = 256
# Names of refused files that a failing disk does not let go: with more of them, a restart may find
# what was refused, which is harmless beside losing what was not.
refused_files_max: Final = 4096
# A restart reads such files whole to believe them: at most 4 GiB, usually a few dozen images.
sealed_bytes_max: Final = 16 * MIB

# --- index --------------------------------------------------------------------------------------
index_key_bytes_max: Final = 511  # LMDB's compile-time limit
index_map_bytes_initial: Final = 256 * MIB
index_map_growth_factor: Final = 2
index_readers_max: Final = 256
# Series whose records the writer keeps decoded: far more than arrive at a time, and a few MB.
index_records_cached_max: Final = 4096
# Large files placed since the last checkpoint: their names are kept, and replayed after a crash.
index_checkpoint_files_max: Final = 4096
index_checkpoint_idle_s: Final = 5  # a quiet service holds no more journal than this
# Under load commits come no closer: the disk's syncs belong to the receivers. What is
# acknowledged can be found this much later.
index_commit_interval_ms: Final = 50
# So long a query waits for the index to have what was acknowledged before it was asked.
index_wait_s: Final = 2
# Peers wait for receivers, nobody for the indexer: where they share a core it gives way, until the
# journal's bound makes the receivers wait for it. A short slice would do the opposite: it makes the
# deadline an early one, and the indexer comes ahead of a receiver whose sync has just ended (one
# core for both, durable: 8,700 instances of 8.7 kB a second with slices of 100 us, 12,500 so).
indexer_nice: Final = 15
indexer_slice_us: Final = 3000
doorbell_delay_ms: Final = 20  # how long the indexer may not know of a durable record
index_batch_max: Final = 1024  # instances under one LMDB commit: bounds latency and dirty pages

# --- sending --------------------------------------------------------------------------------------
associations_sending_max: Final = 5  # Table 4.2-30: of STORAGE-SCU, to all remote AEs together
# What is laid out for one write: sixteen full PDUs, so that a call's cost is lost among its bytes,
# and little enough to stay in a core's own cache between reading the file and sending it.
send_buffer_bytes: Final = 256 * KIB
# Deliveries leased ahead for one destination: five associations send some 2500 a second, and new
# leases come with the next commit, 20 to 50 ms later; with 64 the lanes waited for them. What is
# leased is as good as being sent: it cannot be held, nor discarded.
leases_ahead_max: Final = 256
# So long leases may wait while nothing goes out; then all but one go back, where they can be.
lease_patience_s: Final = 0.5
sending_poll_ms: Final = 50  # how long the sender may not know of a delivery that was queued
sending_commit_interval_ms: Final = 20  # ends of attempts and new leases share a commit
# A destination that takes this long for an instance comes after the others when lanes are scarce.
sending_slow_s: Final = 2
# A modality waits for its response, nobody for what is forwarded: the sender gives way.
sender_nice: Final = 5
sender_slice_us: Final = 1000
sender_drain_s_min: Final = 1  # receivers have used up the drain's time: what is sent is cut off
# Of a file that is to be sent, looked at for its UIDs: series and study stand far in front.
sent_head_bytes_max: Final = 256 * KIB
# How often watched folders are looked at. Where thousands of files lie that are not complete (60 ms
# for 10,000) more rarely: no more than this share of a core goes into looking, up to a bound.
folder_poll_s: Final = 1
folder_share: Final = 0.01
folder_poll_s_max: Final = 30
folder_quiet_s: Final = 2  # a file that did not change for so long is complete
folder_files_per_turn: Final = 200  # of one folder, then the next one has its turn
# Folders in a watched folder that are looked into; nobody who exports images nests so deep, and
# whoever means harm could otherwise keep the sender walking.
folder_depth_max: Final = 16
# A reused association is kept this long without work: it holds one of the few that a peer lets in.
sending_idle_s: Final = 1
# A destination that let no more associations in is offered one more after this.
crowding_forgotten_s: Final = 60
# A destination that cannot be reached is asked again after this, twice as long each time, to a
# bound: a connection every ten seconds costs nobody anything, and what waits goes out within
# seconds of the peer's return.
trouble_pause_s_first: Final = 0.5
trouble_pause_s_max: Final = 10
# A long weekend and the days of a repair; 0: for ever. Ten years.
give_up_after_hours_default: Final = 168
# So often is a destination asked in an hour at the least, a quarter of what its pauses allow for:
# the rest is for time-outs, and for a service that was stopped now and then. Whoever was asked less
# often has not been away for so long: the clock was set forward.
away_asked_in_hour_min: Final = 90
give_up_after_hours_max: Final = 87_600

# --- decoding -----------------------------------------------------------------------------------
# Of one decoded frame, whichever decoder makes it. Mammograms take 60 MB, whole slides are tiled.
decoded_frame_bytes_max: Final = 512 * MIB
# What our own decoder is not made for is decoded in processes of their own, so many of each process
# that asks; who comes meanwhile waits. Each takes a core while it decodes, and its memory.
decoding_processes_max: Final = 2
# libjpeg makes 50 to 180 MB a second of a good frame; a frame that needs twenty times as long, and
# what every frame may need besides, is none.
decoding_cpu_s_base: Final = 5
decoding_bytes_per_cpu_s: Final = 4 * MIB
# Of wall time: a machine whose cores are shared by several times as many who want them.
decoding_wall_factor: Final = 6
# libjpeg takes up to six bytes for each sample besides what the samples come in, measured with
# 4096 x 4096 in colour; a process as it starts does not count.
decoding_memory_bytes_base: Final = 64 * MIB
decoding_memory_bytes_per_sample: Final = 12
decoding_memory_bytes_max: Final = 2048 * MIB
decoding_start_s: Final = 30  # until its first answer: it reads numpy from the disk
# Then it ends and is replaced: what a library leaks for each frame stays little.
decoding_frames_per_process: Final = 1000
decoding_idle_s: Final = 60  # without a frame it ends, with its 35 MB
# Markers before the frame header that are looked at; real streams have some ten.
jpeg_markers_max: Final = 1000

# --- outbox -------------------------------------------------------------------------------------
# A remote AE's name: 64 characters of at most four bytes.
destination_bytes_max: Final = 256
# What operators did to the queue is kept in two files of this size: some 20,000 orders each.
operators_log_bytes_max: Final = 4 * MIB
outbox_page_max: Final = 1000  # deliveries listed in one answer, unless more are asked for
# Deliveries changed under one commit by what walks them all (retry all, pruning): some 10 ms, in
# which the indexer may have to wait.
outbox_portion_max: Final = 1000
# A spooled copy that no delivery names is younger than this while its delivery is being queued.
outbox_orphan_s: Final = 3600

# --- removal ------------------------------------------------------------------------------------
# Instances that leave under one commit: some 5 ms of the index, in which sender and commands wait,
# and as many files to unlink before the next instance is taken in.
removal_portion_max: Final = 200
removal_patience_s: Final = 0.5  # the least pace, where the indexer is never done
tombstone_prune_count: Final = 500  # in one transaction
tombstone_days_default: Final = 365  # a year's priors are looked for
tombstone_days_max: Final = 36_500
# Priors are compared within days of a new study, and what was sent wrongly is sent again.
least_age_days_default: Final = 7
eviction_slice_max: Final = 2000  # studies looked over in one turn of the indexer: some 20 ms
# How often the disk is looked at: the fastest scanners fill some GiB in that time.
eviction_look_s: Final = 60.0
# After a round that could not free enough, or that looked for what is too old.
eviction_pause_s: Final = 600.0
# A removal by hand is waited for as long as it goes on; without any news for so long it is not.
removal_wait_s: Final = 60.0

# --- supervision --------------------------------------------------------------------------------
heartbeat_ms: Final = 50
heartbeat_hung_ms: Final = 500  # hung is found within this, replaced within the second
heartbeat_starved_ms: Final = 10_000  # runnable but given no processor: slow, not hung
restart_backoff_ms_first: Final = 0  # the first replacement is immediate
restart_backoff_ms_max: Final = 10_000
restart_healthy_s: Final = 30  # alive this long: the back-off starts anew
worker_boot_ms_max: Final = 10_000
supervisor_tick_ms: Final = 50  # how often heartbeats are looked at
restart_backoff_ms_step: Final = 250  # the second replacement waits this long, each next twice that
# Each such span of life forgives one death: a worker that is killed now and then is always
# replaced at once, only one that dies while it starts is slowed down.
restart_forgiven_s: Final = 2
orphan_finish_s: Final = 2  # the supervisor is gone: associations may finish for this long
fault_finish_s: Final = 2  # a fault of ours in the event loop: the role's own end has this long
index_drain_s: Final = 15  # receivers have ended: the indexer may take in the rest of the journals
# A new supervisor waits this long for the ports that workers of a killed one still hold.
# Then they hang, never saw its end, and are killed.
takeover_s: Final = orphan_finish_s + 2
listen_backlog: Final = 128  # connections the kernel holds while a worker is being replaced
letter_bytes_max: Final = 128 * KIB  # one message to or from a worker; below the socket's buffer
# Of the HTTP endpoint. A scraper and a watchdog need one connection each; more are somebody's
# mistake, and the oldest makes room for the newest. A header comes in one packet, an answer of
# some 100 kB is read in one go: five and ten seconds are for networks that are ill.
stats_connections_max: Final = 32
stats_header_s: Final = 5.0
stats_request_s: Final = 10.0
stats_header_bytes_max: Final = 16 * KIB
control_request_bytes_max: Final = 4 * KIB  # on the supervisor's status socket
# A reload reads key stores, whose keys are derived from a password in up to some seconds each.
reload_answer_s: Final = 60.0
# One block for each process there ever was under one supervisor; reloads may bring new ports.
counters_blocks_max: Final = 64

# --- logs ---------------------------------------------------------------------------------------
log_line_bytes_max: Final = 4096  # PIPE_BUF: a line is written to a pipe whole or not at all
log_text_characters_max: Final = 512  # of one field
# What may wait for a slow reader. Lines of level info are dropped (and counted) beyond the first
# bound, faults only beyond the second.
log_backlog_bytes_max: Final = 256 * KIB
log_fault_backlog_bytes_max: Final = 4 * MIB
log_close_s: Final = 0.5  # at the end of a process, for what still waits

# --- disk -------------------------------------------------------------------------------------
# Below this much free space new instances are refused while there is still room to finish
# those under way and to commit the index.
reserve_mib_default: Final = 512
reserve_mib_max: Final = 1024 * 1024

# --- TLS ----------------------------------------------------------------------------------------
# BCP 195. Of DHE and ECDHE (2048 and 256 bits, PS3.15 B.11) the groups themselves are listed.
tls_rsa_bits_min: Final = 2048
# OpenSSL's own gate for the same: 112 bits of security for keys, parameters and signatures.
tls_security_level: Final = 2
# A system's whole list of public authorities is about 250 kB; keys are a few.
tls_store_bytes_max: Final = 2 * MIB
tls_password_bytes_max: Final = 1024
# Certificates from ours to the root; public ones have three or four.
tls_chain_certificates_max: Final = 10
# An authority needs days for a new certificate, and hospitals have change windows.
certificate_expiry_warning_days: Final = 30
# Two round trips and a signature: who needs longer is not there, or holds a place on purpose.
tls_handshake_s: Final = 5
# After a refusal, for the peer to read the alert before the connection is gone.
tls_linger_s: Final = 1
tls_reload_retry_s: Final = 1  # what was published could not be read: connections go on as before
# Of an association, so that many records cost one system call; handshakes do with one record.
tls_read_ahead_bytes: Final = 256 * KIB
tls_expiry_check_s: Final = 86_400  # how often a running service looks at its certificate

# --- rules and sending --------------------------------------------------------------------------
# Attributes beyond the index's own that rules may ask for: with them every value at its longest
# still fits attributes_bytes_max, so no rule can crowd out what the index needs.
rule_attributes_max: Final = 24
rule_conditions_max: Final = 64  # of one rule
condition_values_max: Final = 256  # alternatives in one condition
# A regular expression as written, and the states it becomes: with the longest value (1024 bytes)
# the worst one takes a tenth or two of a second.
pattern_characters_max: Final = 256
pattern_states_max: Final = 256
pattern_moves_max: Final = 16384  # kept of what a pattern made of values: a few MB
condition_verdicts_max: Final = 512  # kept of one condition: values of a series repeat
rule_head_bytes_max: Final = 256 * KIB  # of a file, read where the journal lacks an attribute
delivered_days_default: Final = 7
delivered_days_max: Final = 3650
# At so many deaths of its sender while it was in hand a delivery has failed. The first two may have
# been another's doing, or the machine's; before the third nothing else was in hand.
delivery_deaths_max: Final = 3
# At so many deaths of the indexer while it had a journal record in hand, it is set aside. Records
# are taken in one after another, so that few are blamed at a time.
record_deaths_max: Final = 3
records_blamed_max: Final = 16
# An instance that a peer does not let in so often, others having been let in each time between, is
# itself what the peer does not like, and that is an attempt. Fewer may be the peer's own troubles.
turned_away_max: Final = 10
probe_looked_at_max: Final = 5000  # deliveries among which one of another kind is looked for: 20 ms
retry_pause_s_min: Final = 1
retry_pause_s_default: Final = 30
retry_pause_s_max: Final = 3600
# What is due later than any pause could have said was put there by a wall clock that has been set
# back since, and is due now: a retry by the pause above, a prefetch by how long it may wait.
retry_due_s_max: Final = retry_pause_s_max

# --- prefetch -----------------------------------------------------------------------------------
# A study that still arrives is waited for: scanners pause some seconds between series. The bound
# is for one that never ends, so that its priors come while somebody waits for them.
prefetch_quiet_s_default: Final = 10
prefetch_quiet_s_max: Final = 3600
prefetch_wait_s_default: Final = 120
prefetch_wait_s_max: Final = 86_400
prefetch_due_s_max: Final = max(prefetch_wait_s_max, retry_pause_s_max)
prefetch_repeat_s_default: Final = 3600
prefetch_repeat_s_max: Final = 30 * 86_400
prefetch_studies_default: Final = 5  # a reader compares with the last few
prefetch_studies_max: Final = 100
# Archives answer a query within seconds, on busy days within many; between two responses of a
# retrieval, and without a byte of an instance, an archive may have to mount a tape.
query_timeout_s_default: Final = response_timeout_s_default
query_timeout_s_max: Final = 600
retrieve_timeout_s_default: Final = 300
retrieve_timeout_s_max: Final = 3600
# Of one C-FIND. A series of 20,000 images is an exotic one; an archive that heeds no key would
# answer with all it has.
find_matches_max: Final = 20_000
prefetch_instances_max: Final = 200_000  # promised to one job: 150 bytes each while it runs
# Missing images of one series that are asked for one by one; more of them by their series.
image_moves_max: Final = 32
prefetch_missing_named_max: Final = 50  # UIDs in a job's record; the rest is counted
prefetch_unasked_named_max: Final = 50  # likewise
# What an archive sends after its last word still goes where the rule says: tapes and routers take
# minutes. Beyond that whoever sends it does so for a reason of his own.
prefetch_late_s: Final = 600
prefetch_notes_max: Final = 20
prefetch_interruptions_max: Final = 3  # a job that its process dies of so often has failed
prefetch_history_days_default: Final = 30  # a month's report tells what is asked in vain
prefetch_history_days_max: Final = 3650
prefetch_prune_count: Final = 200  # jobs in one transaction
prefetch_poll_s: Final = 0.2  # how long a job that is due may go unseen
prefetch_progress_s: Final = 0.5  # between two records of how far a job has come
# After the archive's last word: how long nothing may arrive until what is missing counts as such.
prefetch_settle_s: Final = 2
# A C-CANCEL is answered when the sub-operation under way ends; then the association is aborted.
cancel_timeout_s: Final = 5
# Before the receivers end: the cancel, and what there is to write down.
retriever_drain_s: Final = cancel_timeout_s + 2

# --- HL7 ----------------------------------------------------------------------------------------
# A message about a patient or an order is some two kB; interfaces put documents into others, which
# are answered like everything that is not for us, so they have to fit.
hl7_message_bytes_max: Final = 4 * MIB
# Of the segments that are looked at: the parser makes an object at each, 12 us.
hl7_separators_max: Final = 20_000
hl7_segments_max: Final = 500  # of those that are looked at
# Between messages: line ends, and what a program sends that speaks something else.
hl7_stray_bytes_max: Final = 256
# Interface engines hold one connection for each feed; over it, the one that has been silent for
# longest is closed.
hl7_connections_max: Final = 32
# Of connections over TLS that are not secured yet, each for `tls_handshake_s`: as many again, so
# that all senders may come back at once. OpenSSL's state of one is some 60 KiB. Over it, the one
# that has been at it for longest is closed.
hl7_handshakes_max: Final = 32
hl7_message_s: Final = 30  # from a message's first byte to its last; a network that is ill
hl7_answer_s: Final = 30  # for a peer to take its answer
hl7_text_characters_max: Final = 64  # of a value, an identifier, a sender: VR LO, PS3.5 6.2
hl7_control_id_characters_max: Final = 199  # MSH-10 since version 2.7
# What messages said of patients and orders that are not here: some 400 bytes each. A large
# hospital's patients and orders of a month. Over it, messages that would add one are answered AE.
hl7_expected_max: Final = 500_000
# Message control identifiers that a replay is known by, of all senders: some 150 bytes each.
hl7_messages_remembered_max: Final = 500_000
hl7_prune_count: Final = 1000  # rows in one transaction, in which the indexer may have to wait
hl7_prune_s: Final = 60
hl7_keep_unmatched_days_default: Final = 30  # orders are made weeks ahead
hl7_keep_unmatched_days_max: Final = 365
hl7_drain_s: Final = 5  # a message under way is committed and answered

# --- exports -----------------------------------------------------------------------------------
# A ZIP file's directory is in memory until it is whole, about 1 KiB for each file.
export_zip_files_max: Final = 100_000

# --- configuration -----------------------------------------------------------------------------
# A thousand remote AEs are about 150 kB; a file named by mistake (an image, a core dump) is refused
# before it is read into memory.
configuration_bytes_max: Final = 256 * KIB

assert pdu_bytes_advertised + 6 == 16 * KIB, "a PDU with its header fills 16 KiB exactly"
assert pdu_bytes_advertised <= pdu_bytes_tolerated < ring_bytes_min
assert ring_bytes_min % page_bytes == 0
assert ring_bytes_default % page_bytes == 0
assert write_bytes % page_bytes == 0
assert 4 * write_bytes <= ring_bytes_default
assert inline_bytes_max + attributes_bytes_max + 64 * KIB < write_bytes
assert (
    journal_group_max * (inline_bytes_max + attributes_bytes_max + 64 * KIB)
    <= journal_segment_bytes
), "what is synced together fits one segment"
assert application_timeout_s_min <= application_timeout_s_default <= application_timeout_s_max
assert 2 * (pdu_bytes_advertised + 6) + 2 * command_bytes_max <= send_buffer_bytes
assert heartbeat_ms * 4 <= heartbeat_hung_ms < 1000
assert supervisor_tick_ms <= heartbeat_ms * 2
assert worker_boot_ms_max <= heartbeat_starved_ms
assert log_backlog_bytes_max < log_fault_backlog_bytes_max
