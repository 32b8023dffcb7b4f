"""htapkit for Apache Airflow 3: connection type, hook, operators, sensors, a trigger and assets."""

from htapkit_airflow.provider import get_provider_info

__all__ = ["get_provider_info"]
