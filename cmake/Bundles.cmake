find_package(Python3 REQUIRED COMPONENTS Interpreter)

# limen_bundle(TARGET): with LIMEN_BUNDLES, compiles those of a target's files as one that can be (bundles.py).
# What has properties of its own stays alone. To be called where the target is made, after those were set.
function(limen_bundle target)
  # The engine is measured: it is compiled in one way.
  if(NOT LIMEN_BUNDLES OR (target STREQUAL limen_soft AND NOT LIMEN_SANITIZE))
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  set(together "")
  set(alone "")
  foreach(source ${sources})
    set(list together)
    foreach(property COMPILE_OPTIONS HEADER_FILE_ONLY OBJECT_DEPENDS)
      get_source_file_property(value ${source} ${property})
      if(value)
        set(list alone)
      endif()
    endforeach()
    list(APPEND ${list} ${source})
  endforeach()
  execute_process(COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/bundles.py
    ${CMAKE_BINARY_DIR}/bundles/${target} ${together}
    OUTPUT_VARIABLE bundles OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" bundles "${bundles}")
  set_property(TARGET ${target} PROPERTY SOURCES ${bundles} ${alone})
  # Their names may have changed.
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/cmake/bundles.py ${together})
endfunction()
