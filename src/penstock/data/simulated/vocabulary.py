"""What the simulated marketplace sells: categories, their topics, and the words that give a topic away.

A topic's nouns and details are its own, so similar texts mean similar topics. A style's words occur in every
category: a frozen encoder hardly weighs them, buyers do, and that is what tuning the encoder can learn.
"""

CATEGORIES: dict[str, dict[str, tuple[str, str]]] = {
    "Kitchen": {
        "coffee": (
            "pour-over dripper, moka pot, burr coffee grinder, espresso tamper, gooseneck kettle, cold brew jug",
            "for filter coffee, with a walnut handle, for two cups, with a fine steel mesh, for slow mornings",
        ),
        "baking": (
            "sourdough banneton, springform cake tin, marble rolling pin, pastry brush, muffin tray, dough scraper",
            "for crusty loaves, for layer cakes, with a linen liner, for short pastry, that never sticks",
        ),
        "knives": (
            "santoku knife, paring knife, bread knife, honing steel, whetstone, magnetic knife rack",
            "in folded steel, with a full tang, with a pakkawood grip, grit 1000/6000, for fine slicing",
        ),
        "spices": (
            "smoked paprika tin, saffron threads, garam masala blend, pepper mill, za'atar pouch, curry leaf jar",
            "ground to order, from a family farm, for slow stews, harvested this autumn, with a measuring spoon",
        ),
    },
    "Garden": {
        "roses": (
            "climbing rose, bare-root shrub rose, rose pruning gloves, rose feed, obelisk trellis, bypass secateurs",
            "with apricot blooms, for a north wall, that flowers till frost, resistant to black spot, for old canes",
        ),
        "vegetables": (
            "heirloom tomato seeds, seed potatoes, raised bed kit, runner bean poles, garlic bulbs, compost bin",
            "for a small plot, ready in ninety days, for heavy clay, enough for four rows, saved by hand",
        ),
        "houseplants": (
            "monstera cutting, terracotta planter, misting bottle, fern in moss pot, cactus trio, grow light",
            "for shady rooms, with drainage saucer, safe for cats, for a bathroom shelf, easy to keep alive",
        ),
        "birds": (
            "peanut feeder, blue tit nest box, sunflower hearts, hedgehog house, bird bath, swift brick",
            "squirrel proof, with a copper roof, for winter feeding, for hungry fledglings, made of larch",
        ),
    },
    "Outdoor": {
        "hiking": (
            "trekking poles, trail map, daypack, gaiters, merino hiking socks, folding water filter",
            "for long ridges, under 300 grams, for wet bracken, with a hip belt, for hut-to-hut tours",
        ),
        "camping": (
            "two-person tent, down sleeping bag, gas stove, camp lantern, inflatable mat, enamel plate set",
            "for frosty nights, that packs to a loaf, with taped seams, for the car boot, with wind shield",
        ),
        "climbing": (
            "dynamic rope, chalk bag, belay device, climbing shoes, quickdraw set, crash pad",
            "for steep limestone, 9.5 mm, for small holds, with a soft toe, for the bouldering hall",
        ),
        "fishing": (
            "fly rod, tackle box, wading boots, landing net, spinning reel, hand-tied trout flies",
            "for chalk streams, in four pieces, with a smooth drag, for spring hatches, for sea bass",
        ),
    },
    "Cycling": {
        "road bikes": (
            "carbon bottle cage, clipless pedals, aero handlebar, bib shorts, 25 mm tyre, bike computer",
            "for long climbs, with a quiet freehub, weighing next to nothing, for club rides, with power meter",
        ),
        "touring": (
            "pannier pair, dynamo headlight, leather saddle, steel front rack, handlebar bag, puncture-proof tyre",
            "for rainy commutes, for two weeks away, with rolled closure, that fits any fork, for gravel lanes",
        ),
        "mountain bikes": (
            "dropper post, suspension fork, knee pads, full-face helmet, tubeless kit, wide enduro bars",
            "for rooty descents, with 160 mm travel, for bike parks, in trail length, with lockout",
        ),
        "children's bikes": (
            "balance bike, bicycle bell, training wheels, child trailer, kids' helmet, tag-along bar",
            "for first rides, from age two, with a flag, with a soft saddle, in reflective paint",
        ),
    },
    "Music": {
        "guitars": (
            "acoustic guitar, fuzz pedal, set of nickel strings, guitar strap, valve amplifier, capo",
            "with a spruce top, for open tunings, with warm overdrive, for fingerstyle, at bedroom volume",
        ),
        "vinyl": (
            "jazz LP, turntable cartridge, record crate, soul 45, anti-static brush, live double album",
            "first pressing, with inner sleeve, on 180 gram vinyl, recorded in one take, near mint",
        ),
        "keyboards": (
            "modular synthesizer, upright piano stool, MIDI controller, sustain pedal, drum machine, melodica",
            "with weighted keys, for ambient pads, with sixteen steps, for small studios, with CV outputs",
        ),
        "folk instruments": (
            "concertina, tenor ukulele, bodhrán, tin whistle, mandolin, fiddle bow",
            "for Irish sessions, in the key of D, with a mahogany back, with a padded bag, for beginners",
        ),
    },
    "Books": {
        "detective stories": (
            "murder mystery, locked-room novel, Nordic noir paperback, police procedural, cosy crime omnibus",
            "set on an island, with a last-page twist, with a weary inspector, in a snowed-in manor, first in a series",
        ),
        "space opera": (
            "science fiction trilogy, generation-ship novel, robot anthology, first-contact story, galactic saga",
            "among dying stars, with a sardonic AI, signed by the author, with star maps, across nine worlds",
        ),
        "cookery books": (
            "vegetarian cookbook, pasta bible, bread handbook, Levantine recipe book, preserving guide",
            "with 120 recipes, photographed at home, for weeknights, with a chapter on pickles, for one pot",
        ),
        "history": (
            "Roman history, biography of an empress, maritime atlas, oral history, Cold War dossier",
            "with fold-out maps, told through letters, with new sources, in two volumes, from the archives",
        ),
    },
    "Toys": {
        "board games": (
            "cooperative board game, worker-placement game, card-drafting game, deduction game, dice tower, chess set",
            "for two to four players, in forty minutes, with wooden meeples, for rainy Sundays, with solo mode",
        ),
        "model railways": (
            "steam locomotive, N gauge carriage, signal box kit, flexible track, station building, freight wagon set",
            "in green livery, with digital sound, at 1:160, with lit interior, for a shelf layout",
        ),
        "dolls": (
            "rag doll, doll's house, miniature tea set, doll's pram, felt mouse family, tiny wardrobe",
            "with embroidered face, with four rooms, in a matchbox, with knitted coat, for bedtime",
        ),
        "building bricks": (
            "castle brick set, marble run, magnetic tiles, technic crane, wooden blocks, pirate ship kit",
            "with 800 pieces, with working gears, from age six, with six knights, for tall towers",
        ),
    },
    "Craft": {
        "knitting": (
            "merino yarn, circular needles, sock pattern, stitch markers, lace shawl kit, alpaca skein",
            "in heather grey, 4-ply, for chunky jumpers, hand-dyed, for a first sweater",
        ),
        "pottery": (
            "stoneware clay, glaze sampler, turning tools, air-dry clay, throwing wheel, kiln cones",
            "for cone six, in celadon, for pinch pots, with trimming loop, for the kitchen table",
        ),
        "watercolours": (
            "watercolour half pans, cold-pressed paper, sable brush, travel palette, masking fluid",
            "in earth colours, 300 gsm, with a fine point, for painting outdoors, granulating",
        ),
        "woodwork": (
            "dovetail saw, block plane, spoon carving knife, marking gauge, oak boards, beeswax finish",
            "for tight joints, with brass back, for green wood, kiln dried, for the workbench",
        ),
    },
    "Clothing": {
        "rainwear": (
            "waxed jacket, sou'wester, waterproof parka, rubber boots, packable poncho, umbrella",
            "with storm flap, for Atlantic weather, with sealed zips, in petrol blue, lined with tartan",
        ),
        "running": (
            "trail running shoes, split shorts, running vest, compression socks, reflective cap, hydration belt",
            "for half marathons, with a rocker sole, for muddy fells, with a key pocket, for dark evenings",
        ),
        "denim": (
            "selvedge jeans, denim overshirt, chore coat, high-rise jeans, western shirt, patched dungarees",
            "in 14 oz cotton, raw and unwashed, with copper rivets, in stone wash, with a straight leg",
        ),
        "jewellery": (
            "silver ring, pearl studs, signet ring, garnet pendant, charm bracelet, enamel brooch",
            "with a hammered band, on a fine chain, with a moonstone, in recycled gold, for pierced ears",
        ),
    },
    "Pets": {
        "dogs": (
            "rope lead, orthopaedic dog bed, chew toy, salmon treats, dog raincoat, puppy crate",
            "for strong pullers, for senior dogs, grain free, for small breeds, with washable cover",
        ),
        "cats": (
            "scratching post, catnip mouse, litter mat, cat tree, window hammock, tuna pouch",
            "for indoor cats, wrapped in sisal, for kittens, that stays put, with a hiding den",
        ),
        "aquariums": (
            "nano aquarium, canister filter, live moss, CO2 kit, shrimp food, driftwood root",
            "for sixty litres, whisper quiet, for planted tanks, with LED bar, for neon tetras",
        ),
        "horses": (
            "hoof pick, lead rope, saddle pad, fly mask, hay net, grooming kit",
            "for native ponies, with fleece lining, in cob size, for long hacks, slow feeding",
        ),
    },
}

STYLES: dict[str, tuple[str, str]] = {
    "vintage": (
        "vintage, antique, retro, mid-century, well-loved",
        "Found in an attic and cleaned by us; it shows its age.",
    ),
    "handmade": (
        "handmade, hand-finished, small-batch, artisan, studio-made",
        "Made by one person, start to end, and numbered.",
    ),
    "budget": (
        "budget, entry-level, no-frills, basic, bargain",
        "Does the job and costs little; spare parts are cheap.",
    ),
    "luxury": (
        "luxury, premium, limited-edition, collector's, heirloom-grade",
        "The best we know how to make, in a gift box.",
    ),
    "eco": (
        "recycled, plastic-free, fair-trade, organic, carbon-neutral",
        "Nothing in it ends as landfill; we take it back.",
    ),
    "smart": (
        "smart, app-connected, rechargeable, self-timing, sensor-driven",
        "Pairs with your phone; updates for five years.",
    ),
}

MAKERS = (
    "Alder & Finch, Brightwater, Old Quay, Northfold, Marrow & Sons, Lindqvist, Tamarind Works, Hollow Oak, Pellow, "
    "Gransden, Casa Mirra, Fennimore, Ostrava Bros, Little Harbour, Kestrel Yard, Vantongeren"
)
