"""The heavy records, trained again up to their first log point; `make test` trains their first steps."""

import pytest
import replays


@pytest.mark.realdata
@pytest.mark.parametrize("record", replays.recorded()["heavy"], ids=lambda record: record["experiment"])
def test_heavy_records_are_proved_by_training_their_beginning_again(record, data_of):
    data_of(record)
    replays.prove(record)
