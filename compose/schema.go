package compose

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/compose-spec/compose-go/v2/schema"
)

// extensionDefs are the definitions of x-maru's JSON Schema, by name.
//
//go:embed x-maru.schema.json
var extensionDefs []byte

// schemaID names the published schema.
const schemaID = "https://github.com/marucloud/maru/compose.schema.json"

// Schema gives the JSON Schema of what Maru reads: the Compose Specification with x-maru in it, at the
// top and in services. Editors that complete and check YAML take it as it is.
func Schema() []byte {
	root, defs := decodeSchema([]byte(schema.Schema)), decodeSchema(extensionDefs)
	root["$id"] = schemaID
	root["title"] = "Compose Specification with x-maru"
	all := root["$defs"].(map[string]any)
	for name, def := range defs {
		all[name] = def
	}
	addProperty(root, "x-maru-app")
	addProperty(all["service"].(map[string]any), "x-maru-service")
	return encodeSchema(root)
}

// ExtensionSchema gives the JSON Schema of x-maru alone: of what a service says, with that of the app
// under $defs/x-maru-app.
func ExtensionSchema() []byte {
	root := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     "https://github.com/marucloud/maru/x-maru.schema.json",
		"title":   "x-maru",
		"$ref":    "#/$defs/x-maru-service",
		"$defs":   decodeSchema(extensionDefs),
	}
	return encodeSchema(root)
}

func addProperty(to map[string]any, def string) {
	to["properties"].(map[string]any)[extensionKey] = map[string]any{"$ref": "#/$defs/" + def}
}

// decodeSchema reads an embedded schema; that it can be read is tested.
func decodeSchema(data []byte) map[string]any {
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		panic(fmt.Sprintf("compose: embedded schema: %v", err))
	}
	return root
}

func encodeSchema(root map[string]any) []byte {
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("compose: schema: %v", err))
	}
	return append(slices.Clip(data), '\n')
}
