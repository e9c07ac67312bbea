// Shared libraries that are loaded when they are first needed: most machines need none of them, and
// to load all takes longer than the rest of start-up.
#pragma once

#include <string>

#include "base/result.h"

namespace limen {

/// A library whose functions the program calls through cmake/DelayLoad.cmake's stand-ins.
struct DelayedLibrary {
  const char* file;  ///< As the dynamic loader looks for it: "libslirp.so.0".
  void* handle;      ///< dlopen()'s; null until a function of it is called
};

/// A function of one. Its stand-in jumps to `address`: first to what calls limen_find_function(),
/// from then on to the function.
struct DelayedFunction {
  void* address;
  const char* name;
  DelayedLibrary* library;
};

/// Loads what is called so. A room does that where it can still fail: a first call that finds no
/// library ends the program.
Result<> load_library(const std::string& file);

/// Loads all that the program may call, and passes over what is missing: for where their files are
/// out of reach later, as after chroot(2).
void load_delayed_libraries();

}  // namespace limen

/// Called by the stand-ins. Thread-safe.
extern "C" void* limen_find_function(limen::DelayedFunction* function);
