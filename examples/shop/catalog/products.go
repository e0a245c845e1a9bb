package main

// Product is something to buy. Price is in cents; Shape and Hue say how the front page draws it.
type Product struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Blurb string `json:"blurb"`
	Price int    `json:"price"`
	Shape string `json:"shape"`
	Hue   int    `json:"hue"`
}

var products = []Product{
	{"sejak", "Sejak green", "First-flush leaves from Boseong, pan-fired by hand.", 1850, "leaf", 96},
	{"hwangcha", "Hwangcha", "Half-oxidized and golden. Honey, chestnut, a long afternoon.", 1600, "leaf", 42},
	{"moon-jar", "Moon jar", "White porcelain, thrown in two halves. No two are round alike.", 14200, "jar", 32},
	{"celadon-cup", "Celadon cup", "Jade glaze over a crane that you feel before you see it.", 3400, "cup", 158},
	{"iron-kettle", "Iron kettle", "Holds heat and its tongue.", 8900, "kettle", 222},
	{"bamboo-whisk", "Bamboo whisk", "Eighty tines cut from one piece.", 2100, "whisk", 72},
	{"floor-cushion", "Floor cushion", "Ramie, filled with buckwheat. For the maru, where else.", 5600, "cushion", 12},
	{"boricha", "Boricha", "Roasted barley. Every kitchen on the peninsula tastes of it.", 900, "leaf", 30},
	{"persimmon-box", "Persimmon box", "Lacquered paper in the red of November.", 4300, "box", 18},
}
