# Compiler flags for every target, gcc and clang.
add_compile_options(
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes
  -Wmissing-prototypes -Wvla -Wformat=2 -Wundef -Wcast-qual -Wpointer-arith
  -Wwrite-strings -fstack-protector-strong -fno-common)
add_compile_definitions(_GNU_SOURCE)
if(RH_WERROR)
  add_compile_options(-Werror)
endif()
if(NOT RH_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_definitions(_FORTIFY_SOURCE=2)
endif()
add_link_options(-Wl,-z,relro,-z,now -Wl,--as-needed)
if(RH_SANITIZE)
  add_compile_options(-fsanitize=${RH_SANITIZE} -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${RH_SANITIZE})
endif()
