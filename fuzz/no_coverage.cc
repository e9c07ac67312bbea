// What GCC's instrumentation calls, for the programs of a fuzz build that are not fuzz targets.
// Weak, so that the hooks of a target win. Compiled without instrumentation of its own.

extern "C" {

[[gnu::weak]] void __sanitizer_cov_trace_pc() {}
[[gnu::weak]] void __sanitizer_cov_trace_cmp1(unsigned char, unsigned char) {}
[[gnu::weak]] void __sanitizer_cov_trace_cmp2(unsigned short, unsigned short) {}
[[gnu::weak]] void __sanitizer_cov_trace_cmp4(unsigned, unsigned) {}
[[gnu::weak]] void __sanitizer_cov_trace_cmp8(unsigned long, unsigned long) {}
[[gnu::weak]] void __sanitizer_cov_trace_const_cmp1(unsigned char, unsigned char) {}
[[gnu::weak]] void __sanitizer_cov_trace_const_cmp2(unsigned short, unsigned short) {}
[[gnu::weak]] void __sanitizer_cov_trace_const_cmp4(unsigned, unsigned) {}
[[gnu::weak]] void __sanitizer_cov_trace_const_cmp8(unsigned long, unsigned long) {}
[[gnu::weak]] void __sanitizer_cov_trace_cmpf(float, float) {}
[[gnu::weak]] void __sanitizer_cov_trace_cmpd(double, double) {}
[[gnu::weak]] void __sanitizer_cov_trace_switch(unsigned long, void*) {}

}  // extern "C"
