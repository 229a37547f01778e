"""Ids, time, errors, phases and the records that more than one room speaks of. No input or output happens here."""
