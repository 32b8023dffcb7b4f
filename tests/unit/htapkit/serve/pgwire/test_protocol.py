"""The conversation with the source, pushed message by message."""

from __future__ import annotations

from htapkit.serve.pgwire.protocol import (
    PHASES,
    Captured,
    Conversation,
    Phase,
    Reply,
    diagram,
)


def sent(conversation: Conversation, kinds: bytes) -> None:
    for kind in kinds:
        conversation.sent(kind, of=ord("S"))


def received(conversation: Conversation, kinds: bytes, status: str = "I") -> None:
    for kind in kinds:
        conversation.received(kind, status)


def test_a_batch_is_answered_in_order() -> None:
    c = Conversation()
    sent(c, b"PDBES")
    assert [each.reply for each in c.owed] == [
        Reply.PARSE, Reply.STATEMENT, Reply.BIND, Reply.EXECUTE, Reply.SYNC,
    ]  # fmt: skip
    received(c, b"1tT2DDC")
    assert [each.reply for each in c.owed] == [Reply.SYNC]
    received(c, b"Z", "T")
    assert not c.owed
    assert c.status == "T"


def test_an_error_voids_its_batch_only() -> None:
    c = Conversation()
    sent(c, b"PBESPS")
    first = c.owed[1]
    received(c, b"E")
    assert first.void
    assert [each.reply for each in c.owed] == [Reply.SYNC, Reply.PARSE, Reply.SYNC]
    assert c.phase is Phase.READY


def test_without_a_sync_the_client_is_skipped_up_to_it() -> None:
    c = Conversation()
    sent(c, b"PB")
    received(c, b"E")
    assert c.phase is Phase.SKIPPING
    sent(c, b"BEQP")
    assert not c.owed
    sent(c, b"S")
    assert [each.reply for each in c.owed] == [Reply.SYNC]


def test_a_query_outlives_its_error() -> None:
    c = Conversation()
    sent(c, b"Q")
    received(c, b"E")
    assert [each.reply for each in c.owed] == [Reply.QUERY]
    received(c, b"Z")
    assert not c.owed


def test_copy_ignores_syncs_sent_before_its_end() -> None:
    c = Conversation()
    sent(c, b"PBES")
    received(c, b"12G")
    assert (c.phase, [each.reply for each in c.owed]) == (Phase.COPYING, [Reply.EXECUTE])
    sent(c, b"dSdc")
    assert c.phase is Phase.BATCH
    sent(c, b"S")
    received(c, b"CZ")
    assert not c.owed


def test_copy_that_was_sent_with_its_data() -> None:
    c = Conversation()
    sent(c, b"Qdc")
    received(c, b"G")
    assert c.phase is Phase.READY
    received(c, b"CZ")
    assert not c.owed


def test_data_left_over_from_a_failed_copy_owes_nothing() -> None:
    c = Conversation()
    sent(c, b"Qdc")
    received(c, b"EZ", "E")
    assert not c.owed
    sent(c, b"dc")
    assert not c.owed


def test_replies_to_hidden_messages_have_a_sink() -> None:
    c = Conversation()
    sink: Captured = []
    c.sent(ord("P"), None, sink)
    head, done = c.received(ord("N"))
    assert head is not None
    assert not done
    head, done = c.received(ord("1"))
    assert head is not None
    assert head.sink is sink
    assert done


def test_every_phase_knows_every_message() -> None:
    for phase, row in PHASES.items():
        assert set(row) == set(b"PBDECSHQFdcf"), phase


def test_the_diagram_names_all_phases() -> None:
    assert all(phase.name in diagram() for phase in Phase)
