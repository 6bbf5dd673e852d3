foreach(name heart engines traffic request db storm)
  rh_unit_test(hub ${name} base wire store/store.h)
endforeach()
