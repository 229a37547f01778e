"""What people's own training code logs: experiments, runs and their values, logged models, and the registry of models made of them.

Every function works inside its caller's transaction. Ids are what clients keep: of experiments a number as text, of runs 32 hexadecimal
digits, of logged models `m-` and as many. Nothing here is deleted for good but tags, aliases, registered models and their versions.
"""
