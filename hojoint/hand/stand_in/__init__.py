"""A right hand of MANO's shapes that the project may give away: anatomy, angles, mesh, model."""
