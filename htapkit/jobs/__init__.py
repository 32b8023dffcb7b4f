"""Long work with an id, a progress and a result: see README.md."""

from htapkit.jobs.runner import Job, JobRunner, JobState, Lane, Progress

__all__ = ["Job", "JobRunner", "JobState", "Lane", "Progress"]
