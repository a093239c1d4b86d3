"""The doctor's look at subnets: can a container in them reach what it must talk to? (SO6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepout.doctor.json_lookup import at, items, members, shown, text
from stepout.doctor.rules import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.doctor.findings import Finding
    from stepout.doctor.states import State

NETWORK = ("Subnets", "RouteTables", "VpcEndpoints")
"""Members of the answers of DescribeSubnets, DescribeRouteTables and DescribeVpcEndpoints."""

_EVERYWHERE = frozenset({"0.0.0.0/0", "::/0"})
_LEADING = ("NatGatewayId", "TransitGatewayId", "NetworkInterfaceId", "InstanceId", "VpcPeeringConnectionId")
_MORE_LEADING = ("LocalGatewayId", "CarrierGatewayId", "CoreNetworkArn", "EgressOnlyInternetGatewayId")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the containers talk to, besides Step Functions and S3.

    Attributes:
        queue: SQS: a relay or a worker.
        registry: Images from ECR.
        logs: The awslogs driver.
    """

    queue: bool = False
    registry: bool = True
    logs: bool = True


def merge_networks(documents: list[Any]) -> dict[str, list[Any]]:
    """Return one network of answers that came in several documents."""
    return {name: [each for document in documents for each in items(members(document).get(name))] for name in NETWORK}


def network_findings(network: object, needs: Needs) -> Iterator[Finding]:
    """Look at every subnet that has no default route, and at the endpoints.

    Args:
        network: Subnets, RouteTables and VpcEndpoints, as EC2 describes them.
        needs: What else is talked to.
    """
    value = members(network)
    endpoints = [members(each) for each in items(value.get("VpcEndpoints"))]
    for index, endpoint in enumerate(endpoints):
        if endpoint.get("VpcEndpointType") == "Interface" and endpoint.get("PrivateDnsEnabled") is False:
            name = _service(endpoint)
            what = f"{shown(name or 'the endpoint')} has PrivateDnsEnabled false"
            yield find("SO606", at("VpcEndpoints", index), what)
    for index, subnet in enumerate(members(each) for each in items(value.get("Subnets"))):
        table = _table_of(subnet, [members(each) for each in items(value.get("RouteTables"))])
        if table is not None and not _leads_out(table):
            mine = [each for each in endpoints if each.get("VpcId") == subnet.get("VpcId") and _is_up(each)]
            yield from _private(at("Subnets", index), subnet, table, mine, needs)


def _private(
    where: str, subnet: dict[str, Any], table: dict[str, Any], endpoints: list[dict[str, Any]], needs: Needs
) -> Iterator[Finding]:
    name = shown(text(subnet.get("SubnetId")) or "the subnet")
    interfaces = {_service(each) for each in endpoints if each.get("VpcEndpointType") != "Gateway"}
    gateways = {
        _service(each)
        for each in endpoints
        if each.get("VpcEndpointType") == "Gateway" and table.get("RouteTableId") in items(each.get("RouteTableIds"))
    }
    wanted: list[tuple[str, tuple[str, ...]]] = [("SO601", ("states",)), ("SO602", ("s3",))]
    wanted += [("SO603", ("sqs",))] if needs.queue else []
    wanted += [("SO604", ("ecr.api", "ecr.dkr"))] if needs.registry else []
    wanted += [("SO605", ("logs",))] if needs.logs else []
    for rule, services in wanted:
        reached = interfaces | (gateways if rule == "SO602" else set())
        if missing := [service for service in services if service not in reached]:
            what = f"{name} has no default route and no endpoint for {' and '.join(missing)}"
            yield find(rule, where, what, example=_endpoint(missing[0], subnet, table))


def _endpoint(service: str, subnet: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    zone = text(subnet.get("AvailabilityZone"))
    region = zone[:-1] if zone else "REGION"
    made: dict[str, Any] = {"VpcId": subnet.get("VpcId"), "ServiceName": f"com.amazonaws.{shown(region)}.{service}"}
    if service == "s3":
        return {**made, "VpcEndpointType": "Gateway", "RouteTableIds": [table.get("RouteTableId")]}
    more = {"VpcEndpointType": "Interface", "PrivateDnsEnabled": True, "SubnetIds": [subnet.get("SubnetId")]}
    return {**made, **more}


def _service(endpoint: dict[str, Any]) -> str:
    """Return ``states`` of ``com.amazonaws.eu-west-1.states``; ``sync-states`` and the like are others."""
    name = text(endpoint.get("ServiceName"))
    return ".".join(name.partition("amazonaws.")[2].split(".")[1:])


def _is_up(endpoint: dict[str, Any]) -> bool:
    return text(endpoint.get("State")).lower() in {"available", ""}


def _table_of(subnet: dict[str, Any], tables: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a subnet's own route table, else its VPC's main one; ``None`` where neither is known."""
    main = None
    for table in tables:
        for link in (members(each) for each in items(table.get("Associations"))):
            if subnet.get("SubnetId") is not None and link.get("SubnetId") == subnet["SubnetId"]:
                return table
            if link.get("Main") is True and table.get("VpcId") == subnet.get("VpcId"):
                main = table
    return main


def _defaults(table: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for route in (members(each) for each in items(table.get("Routes"))):
        to = text(route.get("DestinationCidrBlock")) or text(route.get("DestinationIpv6CidrBlock"))
        if to in _EVERYWHERE and route.get("State") != "blackhole":
            found.append(route)
    return found


def _leads_out(table: dict[str, Any]) -> bool:
    return any(route.get(name) for route in _defaults(table) for name in (*_LEADING, *_MORE_LEADING, "GatewayId"))


def _leads_to_the_internet(table: dict[str, Any]) -> bool:
    routes = _defaults(table)
    return any(text(route.get("GatewayId")).startswith("igw-") for route in routes) and not any(
        route.get(name) for route in routes for name in (*_LEADING, *_MORE_LEADING)
    )


def public_findings(state: State, network: object) -> Iterator[Finding]:
    """Find a task that is put into a public subnet without a public address.

    Args:
        state: Any state.
        network: Subnets and RouteTables, as EC2 describes them.
    """
    where, arguments = state.arguments
    settings = members(members(members(arguments).get("NetworkConfiguration")).get("AwsvpcConfiguration"))
    named = [each for each in items(settings.get("Subnets")) if isinstance(each, str)]
    given = settings.get("AssignPublicIp")
    if state.integration != "ecs:runTask" or given not in (None, "DISABLED") or "AssignPublicIp.$" in settings:
        return
    tables = [members(each) for each in items(members(network).get("RouteTables"))]
    for subnet in (members(each) for each in items(members(network).get("Subnets"))):
        if (name := subnet.get("SubnetId")) not in named:
            continue
        table = _table_of(subnet, tables)
        if table is not None and _leads_to_the_internet(table):
            place = at(where, "NetworkConfiguration", "AwsvpcConfiguration", "AssignPublicIp")
            what = f"AssignPublicIp is not ENABLED, and {shown(name)} leads out by an internet gateway alone"
            yield find("SO607", place, what)
