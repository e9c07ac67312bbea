// The DSDT: what stands on it that no bus can enumerate. Private to acpi/.
#pragma once

#include "boot/acpi/aml.h"
#include "boot/acpi/tables.h"

namespace limen::boot::acpi {

/// The definition block, without the table header.
aml::Code dsdt_body(const Board& board);

}  // namespace limen::boot::acpi
