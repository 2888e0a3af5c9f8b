"""Measures what each process of a run takes while it has nothing to do: of a core, and of the memory."""
