// linux/kvm.h, for C++: some versions of the kernel's headers declare the arrays at the end of
// structures so that they begin elsewhere in C++ than in C (an empty structure has a size there).
#pragma once

#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
#include <linux/kvm.h>  // IWYU pragma: export

static_assert(sizeof(kvm_msr_list) == 4 && sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8);
