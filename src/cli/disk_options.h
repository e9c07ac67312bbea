// The disks of `limen run`.
#pragma once

#include <string>

#include "base/result.h"
#include "machine/description.h"

namespace limen::cli {

/// FILE[,format=raw|qcow2]. Without a format it is what the name's end says, .qcow2 or else raw: a
/// guest that writes another format's header onto its raw disk gains nothing by it. A file that
/// looks like another format than its name says is refused.
Result<machine::DriveDescription> parse_disk(const std::string& words);

/// What a kernel should take for its root with this disk as /dev/vda: "/dev/vda", or, if it has a
/// partition table, "PARTUUID=" and the root partition's.
Result<std::string> root_on(const machine::DriveDescription& disk);

}  // namespace limen::cli
