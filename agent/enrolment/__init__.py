"""A robot's life among those who know it: it enters by a one-time token, keeps its certificate and the time, and leaves."""

from agent.enrolment.entering import enroll
from agent.enrolment.leaving import decommission
from agent.enrolment.renewing import Renewing
from agent.enrolment.timekeeping import keep_time, told_time

__all__ = ["Renewing", "decommission", "enroll", "keep_time", "told_time"]
