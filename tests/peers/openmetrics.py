"""Reads OpenMetrics from standard input with the reference parser; prints the samples as JSON."""
import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

families = text_string_to_metric_families(sys.stdin.read())
print(json.dumps([
    {"name": sample.name, "type": family.type, "labels": sample.labels, "value": sample.value}
    for family in families
    for sample in family.samples
]))
