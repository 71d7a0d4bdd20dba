# SPDX-License-Identifier: Apache-2.0
"""What an API description (Swagger 2.0 or OpenAPI 3) allows: route, method, fields, their types, which of them must be there."""
import re

import yaml


class Refused(Exception):
    """A request that the description does not allow."""


class Description:
    def __init__(self, path, base=""):
        with open(path, encoding="utf-8") as file:
            self.root = yaml.safe_load(file)
        self.routes = []
        for route, methods in self.root["paths"].items():
            pattern = re.compile(re.sub(r"\{[^}]*\}", "[A-Za-z0-9_]+", base + route) + r"\Z")
            self.routes.append((pattern, route, {name.upper(): what for name, what in methods.items()}))

    def resolve(self, schema):
        while "$ref" in schema:
            at = self.root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            schema = at
        return schema

    def check(self, method, path, body):
        """The route of the description, or Refused."""
        for pattern, route, methods in self.routes:
            if not pattern.match(path):
                continue
            if method not in methods:
                raise Refused(f"{method} is no method of {route}")
            self.check_body(methods[method], body, route)
            return route
        raise Refused(f"there is no route {path}")

    def check_body(self, operation, body, route):
        schema, required = None, False
        for parameter in operation.get("parameters", []):
            parameter = self.resolve(parameter)
            if parameter["in"] == "body":
                schema, required = parameter["schema"], parameter.get("required", False)
        if "requestBody" in operation:
            content = operation["requestBody"]
            schema, required = content["content"]["application/json"]["schema"], content.get("required", True)
        if body is None and required:
            raise Refused(f"{route} wants a body")
        if body is not None and schema is None:
            raise Refused(f"{route} takes no body")
        if body is not None:
            self.check_value(schema, body, "the body")

    def check_value(self, schema, value, where):
        schema = self.resolve(schema)
        for part in schema.get("allOf", []):
            self.check_value(part, value, where)
        if "enum" in schema and value not in schema["enum"]:
            raise Refused(f"{where} is {value!r}, none of {schema['enum']}")
        kind = schema.get("type", "object" if "properties" in schema else None)
        types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
        if kind in types and (not isinstance(value, types[kind]) or (kind in ("integer", "number") and isinstance(value, bool))):
            raise Refused(f"{where} is {value!r}, no {kind}")
        if kind == "object":
            self.check_object(schema, value, where)
        elif kind == "array":
            for i, item in enumerate(value):
                self.check_value(schema["items"], item, f"{where}[{i}]")
        elif kind in ("integer", "number"):
            if value < schema.get("minimum", value) or value > schema.get("maximum", value):
                raise Refused(f"{where} is {value}, out of range")

    def check_object(self, schema, value, where):
        properties = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                raise Refused(f"{where} lacks {name}")
        for name, item in value.items():
            if name in properties:
                self.check_value(properties[name], item, f"{where}.{name}")
            elif "additionalProperties" not in schema:
                raise Refused(f"{where} has no {name}")
