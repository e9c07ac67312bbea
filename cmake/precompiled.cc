// Nothing: what is compiled is the header before it (Room.cmake, limen_precompiled).
